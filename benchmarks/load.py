"""Requests in numbers: many clients at once, or so many a second whatever comes back."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
MEDIA_SUFFIXES = frozenset({".flac", ".m4a", ".mp3", ".mp4", ".ogg", ".opus", ".wav", ".webm"})
CALL_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Clip:
    """A file that is uploaded, read once.

    Attributes:
        form: the multipart body with the file in it; its boundary is in `content_type`.
    """

    name: str
    content: bytes
    form: bytes
    content_type: str

    def files(self) -> dict[str, tuple[str, bytes]]:
        return {"file": (self.name, self.content)}


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request; status 0: the connection failed, `body` says how."""

    status: int
    seconds: float
    clip: Clip
    body: Any = None


@dataclass(slots=True)
class Answers:
    """The answers of one run, which took `seconds`."""

    seconds: float = 0.0
    answers: list[Answer] = field(default_factory=list)

    def ok(self) -> list[Answer]:
        return [answer for answer in self.answers if 200 <= answer.status < 300]

    def throughput(self) -> float:
        """Good answers a second."""
        return len(self.ok()) / self.seconds

    def milliseconds(self, quantile: float) -> float:
        """A quantile of the good answers' latency."""
        taken = [answer.seconds for answer in self.ok()]
        return 1000 * float(np.quantile(taken, quantile)) if taken else float("nan")

    def statuses(self) -> dict[int, int]:
        values = sorted(answer.status for answer in self.answers)
        return {status: len(list(same)) for status, same in itertools.groupby(values)}


def clips_of(folders: Iterable[Path]) -> list[Clip]:
    """Read the media files of some folders. Raises FileNotFoundError where there is none."""
    paths = sorted(p for f in folders for p in f.iterdir() if p.suffix in MEDIA_SUFFIXES)
    if not paths:
        raise FileNotFoundError("there is no media file in the folders given")
    return [_clip(path) for path in paths]


def _clip(path: Path) -> Clip:
    content = path.read_bytes()
    # Once for all requests: the clients share the processor with what they measure.
    request = httpx.Request("POST", "http://server", files={"file": (path.name, content)})
    return Clip(path.name, content, request.read(), request.headers["Content-Type"])


async def classify(client: aiohttp.ClientSession, clip: Clip) -> Answer:
    """Post one clip and read the answer to its end."""
    started = time.perf_counter()
    headers = {"Content-Type": clip.content_type}
    try:
        async with client.post("/classify", data=clip.form, headers=headers) as response:
            body = await response.json(content_type=None)
    except aiohttp.ClientError as error:
        return Answer(0, time.perf_counter() - started, clip, repr(error))
    return Answer(response.status, time.perf_counter() - started, clip, body)


Call = Callable[[aiohttp.ClientSession, Clip], Any]


def closed_loop(
    url: str, clips: Sequence[Clip], *, clients: int, seconds: float, call: Call = classify
) -> Answers:
    """Let each client send its next request once it has the answer to its last."""

    async def run() -> Answers:
        answers = Answers()
        turn = itertools.cycle(clips)
        async with _session(url, clients) as session:
            started = time.perf_counter()

            async def client() -> None:
                while time.perf_counter() - started < seconds:
                    answers.answers.append(await call(session, next(turn)))

            await asyncio.gather(*(client() for _ in range(clients)))
            answers.seconds = time.perf_counter() - started
        return answers

    return asyncio.run(run())


def open_loop(
    url: str, clips: Sequence[Clip], *, rate: float, seconds: float, call: Call = classify
) -> Answers:
    """Send `rate` requests a second, whatever comes back."""

    async def run() -> Answers:
        answers = Answers()
        turn = itertools.cycle(clips)
        async with _session(url, 1000) as session, asyncio.TaskGroup() as tasks:

            async def send() -> None:
                answers.answers.append(await call(session, next(turn)))

            started = time.perf_counter()
            for number in range(round(rate * seconds)):
                await asyncio.sleep(started + number / rate - time.perf_counter())
                tasks.create_task(send())
            answers.seconds = time.perf_counter() - started
        return answers

    return asyncio.run(run())


def _session(url: str, connections: int) -> aiohttp.ClientSession:
    """A client that takes far less of the processor than httpx."""
    return aiohttp.ClientSession(
        url,
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
    )
