"""How fast the service answers, beside the bare model and beside general model servers.

    python benchmarks/serving.py throughput [--clients 1 4 16 64] [--peers litserve ray]
    python benchmarks/serving.py latency

`throughput` lets numbers of clients post the sample clips to this service and to the same model
behind each peer, one server after the other, and divides by what the model alone does: all clips
decoded beforehand and embedded in its best batch, or decoded one by one on the way. Beside it
stands the service's own batcher on clips decoded beforehand. `latency` posts one clip at a time
and sets the time beside bare PyAV and the bare model on the same frames, turn by turn. Both print
ratios of one run; `--json FILE` keeps the figures.
"""

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import httpx
import numpy as np
from load import ROOT, Clip, clips_of, closed_loop
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from servers import Server, avgzsl, free_port, running

from model.embedder import Embedder
from model.embedding import PreparedChunk
from model.media.clip import ClipReader
from model.media.limits import MediaLimits
from model.media.types import ClipChunk, DecodeSpec
from service.engine import Engine
from service.metrics import Metrics
from service.settings import load_settings

BATCHES = (1, 2, 4, 8, 16, 32)
"""Clips in a batch of the model alone; the best counts."""
REPEATS = 20
WARM_UP_SECONDS = 3.0
SAMPLES = ROOT / "samples"
MODEL_ALONE = "model alone"
DECODED_ON_THE_WAY = "model, one by one"
ENGINE = "batcher"
OURS = "avgzsl"


# --- throughput ----------------------------------------------------------------------------------


def throughput(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    clips = clips_of([SAMPLES])
    embedder = Embedder.load()
    embedder.warm_up()
    rounds = []
    for number in range(arguments.rounds):
        console.print(f"round {number + 1} of {arguments.rounds}: the model alone")
        figures: dict[str, Any] = {
            MODEL_ALONE: best_batch(embedder),
            DECODED_ON_THE_WAY: one_by_one(embedder),
            ENGINE: {
                str(count): through_batchers(embedder, count, arguments.seconds)
                for count in arguments.clients
            },
        }
        for name in (OURS, *arguments.peers):
            console.print(f"round {number + 1} of {arguments.rounds}: {name}")
            with served(name) as server:
                figures[name] = of_clients(server, clips, arguments.clients, arguments.seconds)
        rounds.append(figures)
    return {"clients": arguments.clients, "rounds": rounds}


@contextmanager
def served(name: str) -> Iterator[Server]:
    """Run this service, or the same model behind a peer."""
    if name == OURS:
        with avgzsl(queue_size="256", log_level="warning") as server:
            yield server
        return
    port = free_port()
    command = [sys.executable, str(ROOT / "benchmarks" / f"peer_{name}.py"), str(port)]
    with running(command, port, health="/health") as server:
        yield server


def of_clients(
    server: Server, clips: Sequence[Clip], counts: Sequence[int], seconds: float
) -> dict[str, Any]:
    closed_loop(server.url, clips, clients=2, seconds=WARM_UP_SECONDS)
    figures = {}
    for count in counts:
        answers = closed_loop(server.url, clips, clients=count, seconds=seconds)
        figures[str(count)] = {
            "per_second": answers.throughput(),
            "p50_ms": answers.milliseconds(0.5),
            "p95_ms": answers.milliseconds(0.95),
            "statuses": answers.statuses(),
        }
    return figures


def decoded(embedder: Embedder) -> list[list[PreparedChunk]]:
    return [
        [embedder.prepare(chunk) for chunk in reader.chunks()]
        for reader in (
            ClipReader(SAMPLES / clip.name, embedder.decode_spec, MediaLimits())
            for clip in clips_of([SAMPLES])
        )
    ]


def best_batch(embedder: Embedder) -> float:
    """Clips a second through the three phases but the decoding, in the best of `BATCHES`."""
    clips = decoded(embedder)
    reached = []
    for size in BATCHES:
        turn = itertools.cycle(clips)
        batches = [list(itertools.islice(turn, size)) for _ in range(max(1, 32 // size))]
        started = time.perf_counter()
        for batch in batches:
            for forwarded in embedder.forward([chunk for clip in batch for chunk in clip]):
                embedder.finish(forwarded)
        reached.append(len(batches) * size / (time.perf_counter() - started))
    return max(reached)


def through_batchers(embedder: Embedder, clients: int, seconds: float) -> float:
    """Clips a second of the service's engine, each client sending its next clip when answered."""
    clips = decoded(embedder)
    settings = load_settings()
    engine = Engine(
        embedder,
        Metrics(),
        batch_rows=settings.batch_rows,
        wait_seconds=settings.batch_wait_milliseconds / 1000,
        max_failures=settings.max_model_failures,
        answer_seconds=settings.model_timeout_seconds,
        # All clients send at once, so there is more to come until each has something waiting.
        is_more_coming=lambda waiting: waiting < clients,
        on_broken=sys.exit,
    )
    turn = itertools.cycle(clips)
    started = time.perf_counter()

    def client(_: int) -> int:
        answered = 0
        while time.perf_counter() - started < seconds:
            futures = [engine.chunks.submit(chunk) for chunk in next(turn)]
            for future in futures:
                embedder.finish(future.result())
            answered += 1
        return answered

    try:
        with ThreadPoolExecutor(clients) as threads:
            answered = sum(threads.map(client, range(clients)))
        return answered / (time.perf_counter() - started)
    finally:
        engine.close()


def one_by_one(embedder: Embedder) -> float:
    """Clips a second where each is decoded and embedded alone."""
    paths = [SAMPLES / clip.name for clip in clips_of([SAMPLES])]
    started = time.perf_counter()
    for path in paths:
        embedder.embed_clip(path, limits=MediaLimits())
    return len(paths) / (time.perf_counter() - started)


def throughput_table(figures: dict[str, Any]) -> Table:
    """Clips a second by number of clients, and this service's as multiples of the others'."""
    table = Table(
        "clients", "of", "clips/s", "p50 ms", "p95 ms", f"{OURS} / that", "batcher / that"
    )

    def median(*path: str) -> float:
        values = []
        for of_round in figures["rounds"]:
            value = of_round
            for key in path:
                value = value[key]
            values.append(value)
        return float(np.median(values))

    for count in map(str, figures["clients"]):
        ours, batcher = median(OURS, count, "per_second"), median(ENGINE, count)
        for name in figures["rounds"][0]:
            rest: tuple[str, ...] = ("", "")
            if name in (MODEL_ALONE, DECODED_ON_THE_WAY):
                reached = median(name)
            elif name == ENGINE:
                reached = batcher
            else:
                reached = median(name, count, "per_second")
                rest = tuple(f"{median(name, count, key):.0f}" for key in ("p50_ms", "p95_ms"))
            ratios = (f"{ours / reached:.2f}", f"{batcher / reached:.2f}")
            table.add_row(count, name, f"{reached:.2f}", *rest, *ratios)
    return table


# --- latency -------------------------------------------------------------------------------------


def latency(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    embedder = Embedder.load()
    embedder.warm_up()
    labels = np.stack([entry.vector for entry in embedder.vocabulary()])
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        data_dir = stack.enter_context(TemporaryDirectory(prefix="avgzsl-bench-"))
        # The first start makes the library, too, and finds the disk cold.
        with avgzsl(log_level="warning", data_dir=data_dir) as server:
            figures["first_ready_seconds"] = server.ready_seconds
        server = stack.enter_context(avgzsl(log_level="warning", data_dir=data_dir))
        client = stack.enter_context(httpx.Client(base_url=server.url))
        figures["ready_seconds"] = server.ready_seconds
        figures["idle_mib"] = server.usage().proportional_bytes / 2**20
        for clip in clips_of([SAMPLES]):
            path = SAMPLES / clip.name
            reader = ClipReader(path, embedder.decode_spec, MediaLimits())
            windows = [window for chunk in reader.chunks() for window in chunk.windows]
            turns = [
                (
                    posted(client, clip),
                    bare(embedder, path, windows, labels),
                    in_parts(embedder, path),
                )
                for _ in range(REPEATS)
            ]
            # The first turn of each clip meets cold caches.
            served_seconds = float(np.median([turn[0] for turn in turns[1:]]))
            figures[clip.name] = {
                "service_ms": 1000 * served_seconds,
                "bare_ms": 1000 * float(np.median([sum(turn[1]) for turn in turns[1:]])),
                "parts_ms": {
                    name: 1000 * float(np.median([turn[2][name] for turn in turns[1:]]))
                    for name in turns[0][2]
                },
            }
            figures[clip.name]["ratio"] = served_seconds * 1000 / figures[clip.name]["bare_ms"]
    return figures


def posted(client: httpx.Client, clip: Clip) -> float:
    started = time.perf_counter()
    client.post("/classify", files=clip.files()).raise_for_status()
    return time.perf_counter() - started


Windows = Sequence[tuple[float, float]]


def bare(
    embedder: Embedder, path: Path, windows: Windows, labels: NDArray[np.float32]
) -> tuple[float, float]:
    """Seconds of PyAV and of the model on the windows that the service embeds."""
    started = time.perf_counter()
    chunk = bare_chunk(path, embedder.decode_spec, windows)
    decoded_at = time.perf_counter()
    (forwarded,) = embedder.forward([embedder.prepare(chunk)])
    for vectors in (forwarded.audio, forwarded.video):
        if len(vectors):
            labels @ vectors.mean(axis=0)
    return decoded_at - started, time.perf_counter() - decoded_at


def bare_chunk(path: Path, spec: DecodeSpec, windows: Windows) -> ClipChunk:
    """Decode a file with as little as PyAV needs, and cut these windows of it."""
    with av.open(str(path)) as container:
        sound = bare_sound(container, spec) if container.streams.audio else None
    with av.open(str(path)) as container:
        times, frames = bare_frames(container, spec) if container.streams.video else ([], [])
    samples = round(spec.sample_rate * spec.window_seconds)
    waveforms = None
    if sound is not None:
        waveforms = np.zeros((len(windows), samples), np.float32)
        for row, (start, _) in zip(waveforms, windows, strict=True):
            piece = sound[round(start * spec.sample_rate) :][:samples]
            row[: len(piece)] = piece
    at = np.array(times, np.float64)
    return ClipChunk(
        windows=tuple(windows),
        waveforms=waveforms,
        has_audio=np.full(len(windows), sound is not None),
        frames=np.stack(frames) if frames else None,
        frame_times=at,
        has_video=np.array([((at >= s) & (at < e)).any() for s, e in windows], bool),
    )


def bare_sound(container: Any, spec: DecodeSpec) -> NDArray[np.float32]:
    resampler = av.AudioResampler("fltp", "mono", spec.sample_rate)
    pieces = [
        piece.to_ndarray()[0]
        for frame in itertools.chain(container.decode(audio=0), [None])
        for piece in resampler.resample(frame)
    ]
    return np.concatenate(pieces)


def bare_frames(container: Any, spec: DecodeSpec) -> tuple[list[float], list[NDArray[np.uint8]]]:
    times: list[float] = []
    frames = []
    for frame in container.decode(video=0):
        if frame.time >= len(times) / spec.frames_per_second:
            scale = spec.frame_size / min(frame.width, frame.height)
            size = {"width": round(frame.width * scale), "height": round(frame.height * scale)}
            frames.append(frame.to_ndarray(format="rgb24", **size))
            times.append(float(frame.time))
    return times, frames


def in_parts(embedder: Embedder, path: Path) -> dict[str, float]:
    """Seconds of each phase, called one after the other in one process."""
    marks = [time.perf_counter()]
    chunks = list(ClipReader(path, embedder.decode_spec, MediaLimits()).chunks())
    marks.append(time.perf_counter())
    prepared = [embedder.prepare(chunk) for chunk in chunks]
    marks.append(time.perf_counter())
    forwarded = embedder.forward(prepared)
    marks.append(time.perf_counter())
    for chunk in forwarded:
        embedder.finish(chunk)
    marks.append(time.perf_counter())
    names = ("decode", "prepare", "forward", "finish")
    return dict(zip(names, np.diff(marks).tolist(), strict=True))


def latency_table(figures: dict[str, Any]) -> Table:
    table = Table("clip", "service ms", "bare ms", "ratio", "decode", "prepare", "forward", "rest")
    for name, of_clip in figures.items():
        if not isinstance(of_clip, dict):
            continue
        parts = of_clip["parts_ms"]
        rest = of_clip["service_ms"] - sum(parts.values())
        shown = [of_clip["service_ms"], of_clip["bare_ms"]]
        table.add_row(
            name,
            *(f"{value:.1f}" for value in shown),
            f"{of_clip['ratio']:.2f}",
            *(f"{parts[key]:.1f}" for key in ("decode", "prepare", "forward")),
            f"{rest:.1f}",
        )
    ratios = [value["ratio"] for value in figures.values() if isinstance(value, dict)]
    table.caption = (
        f"median ratio {np.median(ratios):.2f}; ready after {figures['ready_seconds']:.1f} s, the "
        f"first time after {figures['first_ready_seconds']:.1f} s; "
        f"idle {figures['idle_mib']:.0f} MiB (PSS)"
    )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("throughput", "latency"))
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=15.0, help="for each number of clients")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="*", choices=("litserve", "ray"), default=[])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    progress = Console(stderr=True)
    if arguments.what == "throughput":
        figures = throughput(arguments, progress)
        Console().print(throughput_table(figures))
    else:
        figures = latency(arguments, progress)
        Console().print(latency_table(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
