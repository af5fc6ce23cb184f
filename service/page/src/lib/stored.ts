// Small things that outlive a reload. A browser may forbid to store; then they last as long as the page.

/** Where they are kept: in the browser until it is told otherwise, or in a tab until it is closed. */
type Place = 'browser' | 'tab';

// Only to name the storage throws where it is forbidden.
const storage = (place: Place): Storage => (place === 'tab' ? sessionStorage : localStorage);

export function recall(key: string, place: Place = 'browser'): string | null {
  try {
    return storage(place).getItem(`avgzsl.${key}`);
  } catch {
    return null;
  }
}

export function remember(key: string, value: string, place: Place = 'browser'): void {
  try {
    storage(place).setItem(`avgzsl.${key}`, value);
  } catch {
    return;
  }
}
