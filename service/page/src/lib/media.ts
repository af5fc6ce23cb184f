// What the browser itself can draw of a file: its waveform and some frames.

import type { Waveform } from './types';

const DECODE_LIMIT_BYTES = 64e6;
const SEEK_TIMEOUT_MS = 3000;
const FRAME_HEIGHT = 96;

/** Peaks of a file's sound; null where the browser cannot decode it. */
export async function decodeWaveform(file: Blob, buckets: number): Promise<Waveform | null> {
  // Decoded sound takes some fifty times the memory of a compressed file.
  if (file.size > DECODE_LIMIT_BYTES) return null;
  try {
    const context = new OfflineAudioContext(1, 1, 16000);
    const sound = await context.decodeAudioData(await file.arrayBuffer());
    return peaks(sound, buckets);
  } catch {
    return null;
  }
}

function peaks(sound: AudioBuffer, buckets: number): Waveform {
  const samples = sound.getChannelData(0);
  const lowest: number[] = [];
  const highest: number[] = [];
  for (let bucket = 0; bucket < buckets; bucket++) {
    const end = Math.floor(((bucket + 1) * samples.length) / buckets);
    let low = 0;
    let high = 0;
    for (let i = Math.floor((bucket * samples.length) / buckets); i < end; i++) {
      low = Math.min(low, samples[i]!);
      high = Math.max(high, samples[i]!);
    }
    lowest.push(low);
    highest.push(high);
  }
  return { duration_seconds: sound.duration, lowest, highest };
}

/** Pictures at these moments as data URLs, each as it is ready; ends early where seeking fails. */
export async function* frames(url: string, moments: number[], signal: AbortSignal) {
  const video = document.createElement('video');
  video.muted = true;
  video.preload = 'auto';
  video.src = url;
  try {
    if (!(await happens(video, 'loadeddata')) || !video.videoWidth) return;
    const canvas = document.createElement('canvas');
    canvas.height = FRAME_HEIGHT;
    canvas.width = Math.round((FRAME_HEIGHT * video.videoWidth) / video.videoHeight);
    for (const moment of moments) {
      if (signal.aborted) return;
      video.currentTime = moment;
      if (!(await happens(video, 'seeked'))) return;
      canvas.getContext('2d')!.drawImage(video, 0, 0, canvas.width, canvas.height);
      yield canvas.toDataURL('image/jpeg', 0.8);
    }
  } finally {
    video.removeAttribute('src');
    video.load();
  }
}

function happens(video: HTMLVideoElement, event: 'loadeddata' | 'seeked'): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), SEEK_TIMEOUT_MS);
    const settle = (result: boolean) => {
      clearTimeout(timer);
      resolve(result);
    };
    video.addEventListener(event, () => settle(true), { once: true });
    video.addEventListener('error', () => settle(false), { once: true });
  });
}
