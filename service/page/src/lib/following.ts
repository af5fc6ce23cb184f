// A job followed by the events of the service until it has ended.

import { getJob } from './api';
import { Problem } from './http';
import type { Job } from './types';

const AGAIN_MS = 3000;

/** Whether nothing of a job is left to do. */
export const hasEnded = (job: Job): boolean => job.state !== 'queued' && job.state !== 'running';

/**
 * Tell a job as it is and with each change; resolves with it once it has ended.
 * A service that is away for a while is waited for. Throws Problem, where the job is gone too.
 */
export async function followJob(
  id: string,
  tell: (job: Job) => void,
  signal?: AbortSignal,
): Promise<Job> {
  for (;;) {
    try {
      const job = await getJob(id);
      signal?.throwIfAborted();
      tell(job);
      if (hasEnded(job)) return job;
      const last = await listen(id, tell, signal);
      if (last) return last;
    } catch (error) {
      // 0: it does not answer, 503: it is only just starting.
      if (!(error instanceof Problem) || ![0, 503].includes(error.status)) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    signal?.throwIfAborted();
  }
}

/** Resolves with the ended job, or with null where the stream broke for good. */
function listen(
  id: string,
  tell: (job: Job) => void,
  signal: AbortSignal | undefined,
): Promise<Job | null> {
  return new Promise((resolve, reject) => {
    const source = new EventSource(`/jobs/${encodeURIComponent(id)}/events`);
    const settle = (job: Job | null) => {
      source.close();
      resolve(job);
    };
    source.addEventListener('job', (event: MessageEvent<string>) => {
      const job = JSON.parse(event.data) as Job;
      tell(job);
      if (hasEnded(job)) settle(job);
    });
    // While it only connects anew, the browser does so by itself.
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) settle(null);
    };
    signal?.addEventListener('abort', () => {
      source.close();
      reject(signal.reason as unknown);
    });
  });
}
