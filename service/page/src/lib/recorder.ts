// Recording by microphone or camera, and what to say where it is refused.

export type Source = 'sound' | 'video';

export interface Recording {
  stream: MediaStream;
  /** Stop, and return what was recorded. */
  stop(): Promise<File>;
  /** Stop, and forget what was recorded. */
  cancel(): void;
}

const TYPES: Record<Source, string[]> = {
  sound: ['audio/webm;codecs=opus', 'audio/mp4', 'audio/ogg;codecs=opus'],
  video: ['video/webm;codecs=vp8,opus', 'video/mp4', 'video/webm'],
};

/** Begin to record. Throws an Error whose message can be shown. */
export async function record(source: Source): Promise<Recording> {
  if (!navigator.mediaDevices || !('MediaRecorder' in window)) {
    throw new Error(
      'This browser cannot record here. Open the page at http://localhost or by https, or choose a file.',
    );
  }
  let stream: MediaStream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: source === 'video' });
  } catch (error) {
    throw new Error(refusal(error, source));
  }
  const type = TYPES[source].find((candidate) => MediaRecorder.isTypeSupported(candidate));
  const recorder = new MediaRecorder(stream, type ? { mimeType: type } : {});
  const parts: Blob[] = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.start();
  const release = () => stream.getTracks().forEach((track) => track.stop());
  return {
    stream,
    stop: () =>
      new Promise((resolve) => {
        recorder.onstop = () => {
          release();
          const kind = recorder.mimeType.split(';')[0] ?? '';
          const suffix = kind.split('/')[1] ?? 'webm';
          resolve(new File(parts, `recording.${suffix}`, { type: kind }));
        };
        recorder.stop();
      }),
    cancel: () => {
      recorder.onstop = null;
      if (recorder.state !== 'inactive') recorder.stop();
      release();
    },
  };
}

function refusal(error: unknown, source: Source): string {
  const device = source === 'sound' ? 'microphone' : 'camera or microphone';
  const name = error instanceof DOMException ? error.name : '';
  if (name === 'NotAllowedError') {
    return `The browser was not allowed to use the ${device}. Allow it in the address bar, then try again.`;
  }
  if (name === 'NotFoundError' || name === 'OverconstrainedError') {
    return `No ${device} was found. Connect one, or choose a file.`;
  }
  if (name === 'NotReadableError') {
    return `The ${device} is in use by another program. Close that, then try again.`;
  }
  return `Recording could not start: ${error instanceof Error ? error.message : String(error)}`;
}
