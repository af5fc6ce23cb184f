// Requests, and the sentence that the service answers where one is refused.

import { session } from './session.svelte';

/** A refusal of the service; the message is its sentence. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly retryAfterSeconds: number | null = null,
  ) {
    super(detail);
  }
}

export interface SendOptions {
  method?: string;
  json?: unknown;
  form?: FormData;
  signal?: AbortSignal;
  onProgress?: (fraction: number) => void;
}

interface Reply {
  status: number;
  text: string;
  header(name: string): string | null;
}

const UNREACHABLE = 'The service does not answer. Is it still running? Try again in a moment.';

/** Send a request and return the answer's JSON (null where it has none). Throws Problem. */
export async function send<Answer>(path: string, options: SendOptions = {}): Promise<Answer> {
  let reply = await transfer(path, options);
  if (reply.status === 401 && (await session.obtain())) reply = await transfer(path, options);
  if (reply.status >= 400) throw problemOf(reply);
  return (reply.text ? JSON.parse(reply.text) : null) as Answer;
}

/** Send a request that outlives the page; nobody is left to read its answer. */
export function sendOnLeaving(method: string, path: string): void {
  void fetch(path, { method, keepalive: true });
}

/** Fetch a file. Throws Problem. */
export async function fetchFile(url: string, name: string, signal?: AbortSignal): Promise<File> {
  let response: Response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Problem(0, 'unreachable', UNREACHABLE);
  }
  if (!response.ok) {
    const header = (key: string) => response.headers.get(key);
    throw problemOf({ status: response.status, text: await response.text(), header });
  }
  const blob = await response.blob();
  return new File([blob], name, { type: blob.type });
}

/** The sentence to show for whatever was thrown. */
export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}

// XMLHttpRequest, because fetch does not tell how much of an upload is sent.
function transfer(path: string, options: SendOptions): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const body = options.form ?? (options.json === undefined ? null : JSON.stringify(options.json));
    request.open(options.method ?? (body === null ? 'GET' : 'POST'), path);
    request.setRequestHeader('Accept', 'application/json');
    if (options.json !== undefined) request.setRequestHeader('Content-Type', 'application/json');
    if (options.onProgress) {
      const tell = options.onProgress;
      request.upload.onprogress = (e) => e.lengthComputable && tell(e.loaded / e.total);
    }
    request.onload = () =>
      resolve({
        status: request.status,
        text: request.responseText,
        header: (name) => request.getResponseHeader(name),
      });
    request.onerror = () => reject(new Problem(0, 'unreachable', UNREACHABLE));
    request.onabort = () => reject(new DOMException('Aborted', 'AbortError'));
    if (options.signal?.aborted) return request.onabort?.(new ProgressEvent('abort'));
    options.signal?.addEventListener('abort', () => request.abort(), { once: true });
    request.send(body);
  });
}

function problemOf(reply: Reply): Problem {
  const retryAfter = Number(reply.header('retry-after'));
  try {
    const body = JSON.parse(reply.text);
    return new Problem(reply.status, body.code, body.detail, retryAfter || null);
  } catch {
    // A proxy in between answered, not the service.
    const detail = `The request was refused with status ${reply.status}. Try again in a moment.`;
    return new Problem(reply.status, 'http_error', detail, retryAfter || null);
  }
}
