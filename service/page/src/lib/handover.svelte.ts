// A clip that one view hands to another: "classify this", "what is like this".

import { fetchFile } from './http';
import { route } from './route.svelte';

export interface StoredClip {
  clip_id: string;
  filename: string;
  media_url: string;
}

class Handover {
  toClassify = $state.raw<StoredClip | null>(null);

  classify(clip: StoredClip): void {
    this.toClassify = clip;
    route.go('classify');
  }

  searchLike(clip: StoredClip): void {
    route.go('search', new URLSearchParams({ like: clip.clip_id }));
  }

  take(): StoredClip | null {
    const clip = this.toClassify;
    this.toClassify = null;
    return clip;
  }
}

export const handover = new Handover();

export const fileOf = (clip: StoredClip, signal: AbortSignal) =>
  fetchFile(clip.media_url, clip.filename, signal);
