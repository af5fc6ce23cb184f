// Files on their way into the library: sent a few at a time, then jobs of the service, each with
// its outcome. What the service has taken in no longer needs this page, and is shown again after
// a reload.

import { beginClip, getClip, getJob, listJobItems, patiently, removeJob, retryJob } from './api';
import { followJob, hasEnded } from './following';
import { isAbort, Problem, sentence } from './http';
import { recall, remember } from './stored';
import type { Job } from './types';

const SENT_AT_ONCE = 2;
/** Streams of events; a browser has six connections to a service. */
const FOLLOWED_AT_ONCE = 2;
const NOTE = 'uploads';

type State =
  'waiting' | 'sending' | 'queued' | 'working' | 'done' | 'known' | 'failed' | 'cancelled';

export interface Upload {
  id: number;
  name: string;
  size: number;
  tags: string[];
  /** Null after a reload: then only the service has it. */
  file: File | null;
  /** Null until the service has taken it in. */
  jobId: string | null;
  state: State;
  /** How much is sent or decoded, between 0 and 1; undefined where nobody knows. */
  fraction: number | undefined;
  detail: string;
}

type Noted = Pick<Upload, 'name' | 'size' | 'tags'> & { jobId: string };

const UNFINISHED: readonly State[] = ['waiting', 'sending', 'queued', 'working'];

export const isUnfinished = (item: Upload): boolean => UNFINISHED.includes(item.state);
const isTakenIn = (item: Upload): boolean => item.state === 'queued' || item.state === 'working';

let next = 0;

class Uploads {
  items = $state<Upload[]>([]);
  /** Grows by one whenever a clip was stored, so that lists know to load again. */
  stored = $state(0);
  unfinished = $derived(this.items.filter(isUnfinished).length);
  /** How many would be lost if the page were left. */
  unsent = $derived(
    this.items.filter((item) => item.state === 'waiting' || item.state === 'sending').length,
  );
  private sending = 0;
  private followed = new Set<number>();
  private controllers = new Map<number, AbortController>();

  constructor() {
    for (const { name, size, tags, jobId } of noted()) {
      this.push({ name, size, tags, jobId, file: null, state: 'queued' });
    }
    this.followSome();
  }

  add(files: File[], tags: string[]): void {
    for (const file of files) {
      const { name, size } = file;
      this.push({ name, size, tags, file, jobId: null, state: 'waiting' });
    }
    this.sendSome();
  }

  async cancel(item: Upload): Promise<void> {
    if (item.state === 'waiting') item.state = 'cancelled';
    this.controllers.get(item.id)?.abort();
    if (!item.jobId) return;
    try {
      // What cancels a job removes it once it has ended, and with it what became of it.
      if (hasEnded(await getJob(item.jobId))) return;
      await removeJob(item.jobId);
      item.state = 'cancelled';
    } catch (error) {
      item.detail = sentence(error);
    }
    this.note();
  }

  async retry(item: Upload): Promise<void> {
    item.detail = '';
    item.fraction = undefined;
    if (item.state === 'failed' && item.jobId) {
      try {
        await retryJob(item.jobId);
        item.state = 'queued';
        this.note();
        return this.followSome();
      } catch (error) {
        if (!item.file) {
          item.detail = sentence(error);
          return;
        }
      }
    }
    item.jobId = null;
    item.state = 'waiting';
    this.sendSome();
  }

  clearFinished(): void {
    this.items = this.items.filter(isUnfinished);
    this.note();
  }

  private push(item: Omit<Upload, 'id' | 'fraction' | 'detail'>): void {
    this.items.push({ ...item, id: next++, fraction: undefined, detail: '' });
  }

  private sendSome(): void {
    while (this.sending < SENT_AT_ONCE) {
      const item = this.items.find((candidate) => candidate.state === 'waiting');
      if (!item) return;
      this.sending += 1;
      void this.send(item).finally(() => {
        this.sending -= 1;
        this.sendSome();
      });
    }
  }

  private async send(item: Upload): Promise<void> {
    const controller = new AbortController();
    this.controllers.set(item.id, controller);
    item.state = 'sending';
    const onProgress = (fraction: number) => (item.fraction = fraction);
    try {
      const transfer = { signal: controller.signal, onProgress };
      item.jobId = await patiently(() => beginClip(item.file!, item.tags, transfer));
      item.state = 'queued';
      item.fraction = undefined;
      this.note();
      this.followSome();
    } catch (error) {
      item.state = isAbort(error) ? 'cancelled' : 'failed';
      item.detail = isAbort(error) ? '' : sentence(error);
    } finally {
      this.controllers.delete(item.id);
    }
  }

  /** Those that were taken in first end first. */
  private followSome(): void {
    while (this.followed.size < FOLLOWED_AT_ONCE) {
      const item = this.items.find((one) => isTakenIn(one) && !this.followed.has(one.id));
      if (!item) return;
      this.followed.add(item.id);
      void this.follow(item).finally(() => {
        this.followed.delete(item.id);
        this.note();
        this.followSome();
      });
    }
  }

  private async follow(item: Upload): Promise<void> {
    try {
      const job = await followJob(item.jobId!, (now) => {
        if (isTakenIn(item)) show(item, now);
      });
      await this.settle(item, job);
    } catch (error) {
      if (item.state === 'cancelled') return;
      item.state = 'failed';
      item.detail =
        error instanceof Problem && error.status === 404
          ? 'Its job was removed, here or elsewhere. Look for it in the library.'
          : sentence(error);
    }
  }

  private async settle(item: Upload, job: Job): Promise<void> {
    if (job.state === 'failed') {
      item.detail = job.error?.detail ?? '';
      item.state = 'failed';
      return;
    }
    if (job.state === 'cancelled') {
      item.state = 'cancelled';
      return;
    }
    const became = (await listJobItems(job.job_id, '', 0, 1)).items[0];
    const clipId = became?.duplicate_of ?? became?.clip_id;
    // It may have been deleted meanwhile.
    const clip = clipId ? await getClip(clipId).catch(() => null) : null;
    if (became?.duplicate_of) {
      item.detail = clip && clip.filename !== item.name ? `as ${clip.filename}` : '';
      item.state = 'known';
      return;
    }
    item.detail = clip?.warnings.join(' ') ?? '';
    item.state = 'done';
    this.stored += 1;
  }

  /** Remember what the service has, for the page after a reload. */
  private note(): void {
    const kept = this.items
      .filter((item) => item.jobId && (isTakenIn(item) || item.state === 'failed'))
      .map(({ name, size, tags, jobId }) => ({ name, size, tags, jobId }));
    remember(NOTE, JSON.stringify(kept), 'tab');
  }
}

function show(item: Upload, job: Job): void {
  const current = job.current[0];
  item.state = job.state === 'queued' ? 'queued' : 'working';
  item.fraction = current?.declared_seconds
    ? Math.min(1, current.decoded_seconds / current.declared_seconds)
    : undefined;
}

function noted(): Noted[] {
  try {
    return JSON.parse(recall(NOTE, 'tab') ?? '[]') as Noted[];
  } catch {
    return [];
  }
}

export const uploads = new Uploads();
