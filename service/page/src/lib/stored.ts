// Small choices that outlive a reload. A browser may forbid to store; then they last as long as the page.

export function recall(key: string): string | null {
  try {
    return localStorage.getItem(`avgzsl.${key}`);
  } catch {
    return null;
  }
}

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(`avgzsl.${key}`, value);
  } catch {
    return;
  }
}
