"""The list of sample clips, and the program that makes them again.

    python -m samples.make_samples              write every clip into this folder
    python -m samples.make_samples siren.mp4    write one
    python -m samples.make_samples --check      print what the training teachers hear and see

The clips are drawn and synthesised here, so nobody else holds rights in them; they are CC0.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image

from samples import pictures, sounds
from samples.encoding import FRAMES_PER_SECOND, write_clip

FOLDER = Path(__file__).parent
TEACHERS = FOLDER.parents[1] / "shared" / "data" / "teachers"
SPEECH_FILE = "speech.m4a"
SENTENCE = "Hello. This clip was made by a computer. It tells you nothing but its own words."

Sound = Callable[[float], sounds.Samples]
Picture = Callable[[float], Image.Image]


@dataclass(frozen=True, slots=True)
class Scene:
    """What is heard and seen for some seconds; either may be missing."""

    seconds: float
    sound: Sound | None = None
    picture: Picture | None = None


CLIPS: dict[str, tuple[Scene, ...]] = {
    "dog_bark.wav": (Scene(4, sounds.dog_bark),),
    "birdsong.ogg": (Scene(5, sounds.birdsong),),
    "crickets.opus": (Scene(6, sounds.crickets),),
    "smoke_alarm.mp3": (Scene(6, sounds.smoke_alarm),),
    "organ.flac": (Scene(4, sounds.pipe_organ),),
    "clock.mp4": (Scene(5, sounds.clock_ticking, pictures.wall_clock),),
    "siren.mp4": (Scene(6, sounds.siren, pictures.traffic_light),),
    "candle.mp4": (Scene(5, sounds.fire_crackle, pictures.candle),),
    "lighthouse.webm": (Scene(6, sounds.ocean_waves, pictures.lighthouse),),
    "balloon.mp4": (Scene(5, None, pictures.hot_air_balloon),),
    "bell_then_rain.mp4": (
        Scene(4, sounds.church_bell, pictures.bell_cote),
        Scene(4, sounds.rain, pictures.umbrella_in_rain),
    ),
}


def make(folder: Path, names: Sequence[str]) -> None:
    """Write the named clips; speech only where espeak-ng is installed."""
    for name in names:
        if name == SPEECH_FILE and shutil.which("espeak-ng") is None:
            print(f"{name}: skipped, for espeak-ng is not installed (Debian: espeak-ng)")
            continue
        if name == SPEECH_FILE:
            write_clip(folder / name, samples=_spoken(SENTENCE))
        else:
            scenes = CLIPS[name]
            write_clip(folder / name, samples=_soundtrack(scenes), frames=_frames(scenes))
        print(f"{name}: {(folder / name).stat().st_size} bytes")


def _soundtrack(scenes: tuple[Scene, ...]) -> sounds.Samples | None:
    parts = [sounds.normalised(s.sound(s.seconds)) for s in scenes if s.sound is not None]
    return np.concatenate(parts) if parts else None


def _frames(scenes: tuple[Scene, ...]) -> Iterator[Image.Image] | None:
    if scenes[0].picture is None:
        return None
    return (
        scene.picture(number / FRAMES_PER_SECOND)
        for scene in scenes
        if scene.picture is not None
        for number in range(round(scene.seconds * FRAMES_PER_SECOND))
    )


def _spoken(sentence: str) -> sounds.Samples:
    """Let espeak-ng say a sentence: mono samples at 32 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(
            ["espeak-ng", "-v", "en-gb", "-s", "150", "-w", str(path), sentence], check=True
        )
        return sounds.normalised(decoded_sound(path))


def decoded_sound(path: Path) -> sounds.Samples:
    """Decode a file's sound to mono samples at 32 kHz."""
    resampler = av.AudioResampler("fltp", "mono", sounds.SAMPLE_RATE)
    with av.open(path) as container:
        frames = [*container.decode(audio=0), None]
        pieces = [piece.to_ndarray()[0] for frame in frames for piece in resampler.resample(frame)]
    return np.concatenate(pieces).astype(np.float64)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make or check the clips; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m samples.make_samples", description="Make the sample clips again."
    )
    parser.add_argument("names", nargs="*", metavar="CLIP", help="all by default")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the clips are")
    parser.add_argument(
        "--check", action="store_true", help="print the teachers' answers, and write nothing"
    )
    options = parser.parse_args(arguments)
    known = (*CLIPS, SPEECH_FILE)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no clip is called {', '.join(unknown)}; there are {', '.join(known)}")
    names = options.names or known
    if not options.check:
        make(options.folder, names)
        return 0
    if not TEACHERS.is_dir():
        print(f"The teachers' folder {TEACHERS} is missing; there is nothing to check with.")
        return 1
    # The teachers need torch and ai-edge-litert, which making the clips does not.
    from samples.checking import print_answers  # noqa: PLC0415

    print_answers(options.folder, names, TEACHERS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
