// One function for each request that the page makes.

import { fetchFile, Problem, send, sendOnLeaving, type SendOptions } from './http';
import type {
  ClassName,
  Classification,
  Clip,
  Filter,
  Job,
  JobItem,
  JobState,
  ModalityChoice,
  ModelInfo,
  Page,
  Result,
  Sample,
  SearchModality,
  Waveform,
} from './types';

type Transfer = Pick<SendOptions, 'signal' | 'onProgress'>;

export interface ClassifyOptions {
  candidates: string[];
  modality: ModalityChoice;
  topK: number;
}

export function classify(file: File, options: ClassifyOptions, transfer: Transfer = {}) {
  const fields: [string, string][] = [
    ['top_k', String(options.topK)],
    ['modality', options.modality],
    ['windows', 'true'],
    ...options.candidates.map((name): [string, string] => ['candidate_labels', name]),
  ];
  return send<Classification>('/classify', { form: formOf(file, fields), ...transfer });
}

export interface SearchOptions {
  minus: string[];
  modality: SearchModality;
  top_k: number;
  filter: Filter;
}

export async function searchByWords(
  query: string,
  options: SearchOptions,
  transfer: Transfer = {},
) {
  return (
    await send<{ results: Result[] }>('/retrieve', { json: { query, ...options }, ...transfer })
  ).results;
}

export async function searchByClip(
  clip_id: string,
  options: SearchOptions,
  transfer: Transfer = {},
) {
  return (
    await send<{ results: Result[] }>('/retrieve', { json: { clip_id, ...options }, ...transfer })
  ).results;
}

export async function searchByFile(file: File, options: SearchOptions, transfer: Transfer = {}) {
  const form = formOf(file, [
    ['modality', options.modality],
    ['top_k', String(options.top_k)],
    ['filter', JSON.stringify(options.filter)],
    ...options.minus.map((words): [string, string] => ['minus', words]),
  ]);
  return (await send<{ results: Result[] }>('/retrieve/by-file', { form, ...transfer })).results;
}

export function storeClip(file: File, tags: string[], transfer: Transfer = {}) {
  const fields = tags.map((tag): [string, string] => ['tags', tag]);
  return send<Clip>('/clips', { form: formOf(file, fields), ...transfer });
}

/** Have a clip stored by a job, which skips a file that is stored already; returns the job's id. */
export async function beginClip(file: File, tags: string[], transfer: Transfer = {}) {
  const form = formOf(file, [
    ['if_duplicate', 'skip'],
    ...tags.map((tag): [string, string] => ['tags', tag]),
  ]);
  return (await send<{ job_id: string }>('/clips?mode=async', { form, ...transfer })).job_id;
}

export interface ImportOptions {
  tags: string[];
  recursive: boolean;
  if_duplicate: 'skip' | 'store';
}

export const beginImport = (path: string, options: ImportOptions) =>
  send<{ job_id: string }>('/jobs/import', { json: { path, ...options } });

export function listJobs(state: JobState | '', offset: number, limit: number) {
  return send<Page<Job>>(`/jobs?${sliceOf(state, offset, limit)}`);
}

export function listJobItems(id: string, state: JobState | '', offset: number, limit: number) {
  return send<Page<JobItem>>(`${pathOf(id)}/items?${sliceOf(state, offset, limit)}`);
}

export const getJob = (id: string) => send<Job>(pathOf(id));

export const retryJob = (id: string) => send<Job>(`${pathOf(id)}/retry`, { method: 'POST' });

/** Cancel a job that has not ended; remove one that has. */
export const removeJob = (id: string) => send<null>(pathOf(id), { method: 'DELETE' });

const pathOf = (job: string) => `/jobs/${encodeURIComponent(job)}`;

function sliceOf(state: JobState | '', offset: number, limit: number): URLSearchParams {
  const slice = new URLSearchParams({ offset: String(offset), limit: String(limit) });
  if (state) slice.set('state', state);
  return slice;
}

export function listClips(filter: Filter, offset: number, limit: number) {
  const query = new URLSearchParams({ offset: String(offset), limit: String(limit) });
  for (const [name, value] of Object.entries(filter)) {
    for (const one of [value].flat()) query.append(name, one);
  }
  return send<Page<Clip>>(`/clips?${query}`);
}

export const getClip = (id: string) => send<Clip>(`/clips/${encodeURIComponent(id)}`);

export const setTags = (id: string, tags: string[]) =>
  send<Clip>(`/clips/${encodeURIComponent(id)}`, { method: 'PATCH', json: { tags } });

export const removeClip = (id: string) =>
  send<null>(`/clips/${encodeURIComponent(id)}`, { method: 'DELETE' });

export const removeClipOnLeaving = (id: string) =>
  sendOnLeaving('DELETE', `/clips/${encodeURIComponent(id)}`);

export const getWaveform = (id: string, buckets: number) =>
  send<Waveform>(`/clips/${encodeURIComponent(id)}/waveform?buckets=${buckets}`);

export const spectrogramUrl = (id: string) => `/clips/${encodeURIComponent(id)}/spectrogram`;

export function listClasses(query: string, seen: boolean | null, offset: number, limit: number) {
  const parameters = new URLSearchParams({ offset: String(offset), limit: String(limit) });
  if (query) parameters.set('query', query);
  if (seen !== null) parameters.set('seen', String(seen));
  return send<Page<ClassName>>(`/classes?${parameters}`);
}

export const addClass = (name: string, synonyms: string[] = [], description = '') =>
  send<ClassName>('/classes', { json: { name, synonyms, description } });

export const changeClass = (
  id: string,
  change: Partial<Pick<ClassName, 'name' | 'synonyms' | 'description' | 'enabled'>>,
) => send<ClassName>(`/classes/${encodeURIComponent(id)}`, { method: 'PATCH', json: change });

export const removeClass = (id: string) =>
  send<null>(`/classes/${encodeURIComponent(id)}`, { method: 'DELETE' });

export const removeClassOnLeaving = (id: string) =>
  sendOnLeaving('DELETE', `/classes/${encodeURIComponent(id)}`);

export const getModel = () => send<ModelInfo>('/model');

export const listSamples = async () => (await send<{ items: Sample[] }>('/samples')).items;

export const fetchSample = (sample: Sample, signal?: AbortSignal) =>
  fetchFile(sample.url, sample.name, signal);

/** Wait and try again while the service has no room; other refusals are thrown. */
export async function patiently<Answer>(attempt: () => Promise<Answer>): Promise<Answer> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 429) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * (error.retryAfterSeconds ?? 2)));
    }
  }
}

function formOf(file: File, fields: [string, string][]): FormData {
  const form = new FormData();
  for (const [name, value] of fields) form.append(name, value);
  form.append('file', file, file.name);
  return form;
}
