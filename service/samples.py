"""The sample clips, where an installation brings them: a checkout, or what its wheel installed."""

import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

CHECKOUT = Path(__file__).parents[1] / "samples"
INSTALLED = Path(sysconfig.get_path("data")) / "share" / "avgzsl" / "samples"


@dataclass(frozen=True, slots=True)
class Sample:
    """One clip: what is heard and seen in it, None where it has no sound or no pictures."""

    name: str
    content_type: str
    heard: str | None
    seen: str | None


SAMPLES: Mapping[str, Sample] = MappingProxyType(
    {
        sample.name: sample
        for sample in (
            Sample("dog_bark.wav", "audio/wav", "a dog barks in a yard", None),
            Sample("clock.mp4", "video/mp4", "a clock ticks", "a wall clock"),
            Sample(
                "bell_then_rain.mp4",
                "video/mp4",
                "4 s church bell, 4 s rain",
                "a bell, then an umbrella in rain",
            ),
            Sample("siren.mp4", "video/mp4", "a siren wails", "a traffic light, red to green"),
            Sample("lighthouse.webm", "video/webm", "waves on a beach", "a lighthouse in the sea"),
            Sample("balloon.mp4", "video/mp4", None, "a hot-air balloon drifts"),
            Sample("candle.mp4", "video/mp4", "a fire crackles", "a candle burns"),
            Sample("birdsong.ogg", "audio/ogg", "a small bird sings", None),
            Sample("crickets.opus", "audio/ogg", "crickets at night", None),
            Sample("smoke_alarm.mp3", "audio/mpeg", "a smoke alarm beeps", None),
            Sample("organ.flac", "audio/flac", "a pipe organ, four chords", None),
            Sample("speech.m4a", "audio/mp4", "a computer speaks", None),
        )
    }
)
"""By name, in the order in which they are shown."""


@cache
def samples_dir() -> Path:
    """Return the folder of the sample clips; it may lack some or all of them."""
    return CHECKOUT if CHECKOUT.is_dir() else INSTALLED


def sample_path(name: str) -> Path | None:
    """Return where a sample clip lies; None where there is none of this name."""
    # The name comes from a client: it is looked up, never joined to a path unless it is known.
    path = samples_dir() / name if name in SAMPLES else None
    return path if path is not None and path.is_file() else None
