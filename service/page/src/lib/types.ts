// What goes over the wire, as service/schemas/ defines it.

export type ModalityChoice = 'auto' | 'audio' | 'video';
export type SearchModality = 'both' | 'audio' | 'video';

export interface ModalityUse {
  used: boolean;
  reason: string | null;
}

export interface Modalities {
  audio: ModalityUse;
  video: ModalityUse;
}

export interface Label {
  name: string;
  score: number;
  probability: number;
  seen: boolean;
  by_modality: { audio: number | null; video: number | null };
}

export interface Window {
  start_seconds: number;
  end_seconds: number;
  labels: Label[];
}

export interface Classification {
  labels: Label[];
  unknown_probability: number;
  modalities: Modalities;
  duration_seconds: number;
  windows: Window[];
  warnings: string[];
  model_id: string;
}

export interface Clip {
  clip_id: string;
  filename: string;
  content_type: string;
  size_bytes: number;
  duration_seconds: number;
  modalities: Modalities;
  tags: string[];
  warnings: string[];
  segment_count: number;
  created_at: string;
  media_url: string;
  thumbnail_url: string | null;
}

export interface Result {
  clip_id: string;
  score: number;
  start_seconds: number;
  end_seconds: number;
  filename: string;
  tags: string[];
  media_url: string;
  thumbnail_url: string | null;
}

export interface ClassName {
  class_id: string;
  name: string;
  synonyms: string[];
  description: string;
  seen: boolean;
  enabled: boolean;
  created_at: string;
}

export interface Page<Item> {
  items: Item[];
  total: number;
  offset: number;
  limit: number;
}

export type JobState = 'queued' | 'running' | 'done' | 'failed' | 'cancelled';

export interface JobError {
  code: string;
  detail: string;
}

export interface Job {
  job_id: string;
  kind: 'clip' | 'import' | 'classify';
  name: string;
  state: JobState;
  revision: number;
  counts: { total: number; done: number; failed: number; cancelled: number; skipped: number };
  current: { name: string; decoded_seconds: number; declared_seconds: number | null }[];
  result: Classification | null;
  error: JobError | null;
  created_at: string;
}

export interface JobItem {
  name: string;
  state: JobState;
  clip_id: string | null;
  duplicate_of: string | null;
  error: JobError | null;
}

export interface Filter {
  tags?: string[];
  class?: string;
  modality?: 'audio' | 'video';
  created_after?: string;
  created_before?: string;
}

export interface Sample {
  name: string;
  content_type: string;
  size_bytes: number;
  heard: string | null;
  seen: string | null;
  url: string;
}

export interface ModelSwap {
  model: string;
  state: 'loading' | 'reindexing' | 'done' | 'failed' | 'cancelled';
  model_id: string | null;
  error: JobError | null;
  finished_at: string | null;
}

export interface ModelInfo {
  model_id: string;
  head: string;
  audio_backbone: string;
  video_backbone: string;
  text_encoder: string;
  embedding_dim: number;
  device: string;
  vector_store: string;
  classes: number;
  clips: number;
  segments: number;
  vectors: Record<string, number>;
  indexes: Record<string, { kind: string; recall: number; training: boolean }>;
  swap: ModelSwap | null;
  reindex: {
    model_id: string;
    clips: number;
    done: number;
    failed: number;
    failures: { clip_id: string; filename: string; reason: string }[];
  } | null;
}

export interface Waveform {
  duration_seconds: number;
  lowest: number[];
  highest: number[];
}
