// Short messages at the edge of the page, read out by screen readers; some can be undone.

export interface Notice {
  id: number;
  text: string;
  kind: 'done' | 'error';
  action?: { label: string; run: () => void };
  expire: (leaving?: boolean) => void;
  seconds: number;
}

let next = 0;

class Notices {
  shown = $state<Notice[]>([]);

  tell(text: string): void {
    this.add({ text, kind: 'done', seconds: 5 });
  }

  fail(text: string): void {
    this.add({ text, kind: 'error', seconds: 12 });
  }

  /** Tell what will be done and offer to take it back; `commit` runs once the notice, or the page, is gone. */
  undoable(text: string, commit: (leaving: boolean) => void, undo: () => void): void {
    const action = { label: 'Undo', run: undo };
    this.add({ text, kind: 'done', seconds: 8, action }, commit);
  }

  act(notice: Notice): void {
    this.remove(notice.id);
    notice.action?.run();
  }

  /** The page is left: let everything that could still be undone happen now. */
  leave(): void {
    for (const notice of [...this.shown]) notice.expire(true);
  }

  private add(
    notice: Omit<Notice, 'id' | 'expire'>,
    commit: (leaving: boolean) => void = () => {},
  ): void {
    const id = next++;
    const expire = (leaving = false) => {
      if (this.remove(id)) commit(leaving);
    };
    this.shown.push({ ...notice, id, expire });
  }

  private remove(id: number): boolean {
    const before = this.shown.length;
    this.shown = this.shown.filter((notice) => notice.id !== id);
    return this.shown.length < before;
  }
}

export const notices = new Notices();
