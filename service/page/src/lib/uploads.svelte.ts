// The queue of files on their way into the library: a few at a time, each with its outcome.

import { patiently, storeClip } from './api';
import { isAbort, sentence } from './http';

const AT_ONCE = 2;

export interface Upload {
  id: number;
  file: File;
  tags: string[];
  state: 'waiting' | 'sending' | 'working' | 'done' | 'failed' | 'stopped';
  fraction: number;
  detail: string;
}

let next = 0;

class Uploads {
  items = $state<Upload[]>([]);
  /** Grows by one whenever a clip was stored, so that lists know to load again. */
  stored = $state(0);
  unfinished = $derived(
    this.items.filter((item) => ['waiting', 'sending', 'working'].includes(item.state)).length,
  );
  private active = 0;
  private controllers = new Map<number, AbortController>();

  add(files: File[], tags: string[]): void {
    for (const file of files) {
      this.items.push({ id: next++, file, tags, state: 'waiting', fraction: 0, detail: '' });
    }
    this.start();
  }

  stop(item: Upload): void {
    if (item.state === 'waiting') item.state = 'stopped';
    this.controllers.get(item.id)?.abort();
  }

  retry(item: Upload): void {
    Object.assign(item, { state: 'waiting', fraction: 0, detail: '' });
    this.start();
  }

  clearFinished(): void {
    this.items = this.items.filter((item) =>
      ['waiting', 'sending', 'working'].includes(item.state),
    );
  }

  private start(): void {
    while (this.active < AT_ONCE) {
      const item = this.items.find((candidate) => candidate.state === 'waiting');
      if (!item) return;
      this.active += 1;
      void this.run(item).finally(() => {
        this.active -= 1;
        this.start();
      });
    }
  }

  private async run(item: Upload): Promise<void> {
    const controller = new AbortController();
    this.controllers.set(item.id, controller);
    item.state = 'sending';
    const onProgress = (fraction: number) => {
      item.fraction = fraction;
      if (fraction === 1) item.state = 'working';
    };
    try {
      const transfer = { signal: controller.signal, onProgress };
      const clip = await patiently(() => storeClip(item.file, item.tags, transfer));
      item.state = 'done';
      item.detail = clip.warnings.join(' ');
      this.stored += 1;
    } catch (error) {
      item.state = isAbort(error) ? 'stopped' : 'failed';
      item.detail = isAbort(error) ? '' : sentence(error);
    } finally {
      this.controllers.delete(item.id);
    }
  }
}

export const uploads = new Uploads();
