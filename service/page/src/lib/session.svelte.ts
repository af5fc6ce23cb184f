// The API key, where the service asks for one: shown once as a form, kept as a cookie by the service.

class Session {
  /** Whether the form for the key is shown. */
  asking = $state(false);
  private waiting: ((entered: boolean) => void)[] = [];

  /** Show the form; resolves with whether a key was accepted. */
  obtain(): Promise<boolean> {
    this.asking = true;
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  /** Let all requests that wait for the key go on. */
  settle(entered: boolean): void {
    this.asking = false;
    for (const resolve of this.waiting.splice(0)) resolve(entered);
  }
}

export const session = new Session();
