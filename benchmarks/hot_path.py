"""What a window costs the model, how near that is to what the machine can, and what else was tried.

    python benchmarks/hot_path.py [--threads 1] [--json FILE]

Prints, for the parts of the bundled backbones and several batches, operations and time a row beside
what the machine reaches in one large matrix product; which operators take the time (the torch
profiler); and the same weights run in other ways, turn by turn: by ONNX Runtime, as the service
runs them on a CPU, with threads that share layers and not rows, in 8 bits, and compiled by
TorchInductor. `difference` is the mean cosine distance of the features from those of plain torch.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from load import ROOT, clips_of
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from model.backbones.compact_audio import GRAPH_FILE as AUDIO_GRAPH
from model.backbones.compact_audio import CompactAudio, LogMel
from model.backbones.compact_video import GRAPH_FILE as VIDEO_GRAPH
from model.backbones.compact_video import CompactVideo
from model.backbones.onnx_graph import INPUT, OnnxGraph
from model.checkpoint import checkpoint_folder
from model.device import CPU_BATCH_ROWS, batch_slices, rows_a_call
from model.distillation.graphs import audio_layers, exported, video_layers
from model.embedder import Embedder
from model.lanes import Lanes
from model.media.clip import ClipReader
from model.media.limits import MediaLimits

BATCHES = (1, 2, 4, 8, 16, 32)
COMPARED_BATCH = 8
ROUNDS = 15
OPERATORS = 6
CALIBRATION_ROWS = 32
PEAK_SIDE = 2048
"""Side of the square matrices whose product stands for what the machine can."""

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Part:
    """A part of the model that maps (B, ...) to (B, D), and real inputs for it, (rows, ...).

    Attributes:
        served: the part as the service runs it on a CPU, where that is not torch.
    """

    name: str
    module: nn.Module
    rows: Tensor
    served: Run | None = None

    def batch(self, size: int) -> Tensor:
        """The first `size` rows, again from the first where there are fewer."""
        return self.rows[torch.arange(size) % len(self.rows)]

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x)
        return y


def parts() -> list[Part]:
    """The bundled backbones on what the sample clips hold."""
    folder = checkpoint_folder("bundled")
    audio, video = CompactAudio.load(folder), CompactVideo.load(folder)
    spec = Embedder.load().decode_spec
    waveforms, frames = [], []
    for clip in clips_of([ROOT / "samples"]):
        for chunk in ClipReader(ROOT / "samples" / clip.name, spec, MediaLimits()).chunks():
            if chunk.waveforms is not None:
                waveforms += [audio.prepare(w) for w in chunk.waveforms[chunk.has_audio]]
            if chunk.frames is not None:
                frames += [video.prepare(f) for f in chunk.frames]
    sound, pictures = torch.from_numpy(np.stack(waveforms)), torch.from_numpy(np.stack(frames))
    heard, _ = audio_layers(audio)
    seen, _ = video_layers(video)
    heard_by = OnnxGraph(folder / AUDIO_GRAPH, heard.network, asdict(audio.config))
    seen_by = OnnxGraph(folder / VIDEO_GRAPH, seen.network, asdict(video.config))
    lanes = Lanes(torch.get_num_threads())
    mel = LogMel(audio.config)
    return [
        Part("log-mel", mel, sound),
        Part("sound", heard, mel(sound), shared_out(heard_by, lanes)),
        Part("pictures", seen, pictures, shared_out(seen_by, lanes)),
    ]


def shared_out(graph: OnnxGraph, lanes: Lanes) -> Run:
    """Run a graph as the service does: rows side by side, each on one thread."""

    def run(batch: Tensor) -> Tensor:
        rows = len(batch)
        at_most = rows_a_call(rows, lanes=lanes.count, at_most=CPU_BATCH_ROWS)
        slices = batch_slices(rows, at_most=at_most)
        return torch.cat(lanes.run([partial(graph, batch[a:b]) for a, b in slices]))

    return run


def seconds_of(run: Callable[[], object]) -> float:
    """Best of some rounds: what disturbs only ever adds."""
    run()
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return min(taken)


def peak_flops() -> float:
    """Operations a second in one large matrix product."""
    left = torch.randn(PEAK_SIDE, PEAK_SIDE)
    return 2 * PEAK_SIDE**3 / seconds_of(lambda: left @ left)


def flops(part: Part) -> float:
    """Multiplications and additions of one row; the Fourier transform is not counted."""
    with FlopCounterMode(display=False) as counter:
        part(part.batch(1))
    return float(counter.get_total_flops())


def costs(part: Part, peak: float) -> list[dict[str, Any]]:
    """Time by torch and as served, and the share of the peak that the latter reaches, by batch."""
    of_row = flops(part)
    found = []
    for size in BATCHES:
        batch = part.batch(size)
        by_torch = seconds_of(partial(part, batch)) / size
        served = seconds_of(partial(part.served, batch)) / size if part.served else by_torch
        found.append(
            {
                "part": part.name,
                "batch": size,
                "mflop": of_row / 1e6,
                "torch_ms": 1000 * by_torch,
                "ms": 1000 * served,
                "share_of_peak": of_row / served / peak,
            }
        )
    return found


def operators(part: Part) -> list[tuple[str, float]]:
    """The operators that take longest, with their share of the time, at the compared batch."""
    batch = part.batch(COMPARED_BATCH)
    part(batch)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(5):
            part(batch)
    averages = profiler.key_averages()
    total = sum(event.self_cpu_time_total for event in averages)
    longest = sorted(averages, key=lambda event: -event.self_cpu_time_total)[:OPERATORS]
    return [(event.key, event.self_cpu_time_total / total) for event in longest]


# --- other ways to run the same weights -----------------------------------------------------------


class Rows(CalibrationDataReader):  # type: ignore[misc]
    """Real rows, from which ONNX Runtime takes the ranges of activations."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self._rest = iter([rows[i : i + 1] for i in range(len(rows))])

    def get_next(self) -> Mapping[str, NDArray[Any]] | None:
        row = next(self._rest, None)
        return None if row is None else {INPUT: row}


def quantised(part: Part, path: Path) -> Path:
    """Quantise weights and activations to 8 bits, ranges taken from real rows."""
    prepared, target = path.with_suffix(".prepared.onnx"), path.with_suffix(".8bit.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    rows = part.batch(CALIBRATION_ROWS).contiguous().numpy()
    quantize_static(str(prepared), str(target), Rows(rows))
    return target


def by_onnx_runtime(path: Path, threads: int) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> Tensor:
        (y,) = session.run(None, {INPUT: x.contiguous().numpy()})
        return torch.from_numpy(y)

    return run


def ways(part: Part, folder: Path, threads: int) -> dict[str, Run]:
    """The same part in each way to run it, by name, plain torch first."""
    assert part.served is not None
    path = folder / f"{part.name}.onnx"
    onnx.save(exported(part.module, part.batch(2).contiguous()), path)
    return {
        "torch": part,
        "ONNX Runtime, as served": part.served,
        "ONNX Runtime, threads sharing layers": by_onnx_runtime(path, threads),
        "ONNX Runtime, 8 bits": by_onnx_runtime(quantised(part, path), threads),
        "TorchInductor": torch.compile(part.module, dynamic=False),
    }


def compared(part: Part, folder: Path, threads: int) -> list[dict[str, Any]]:
    """Time of each way as a share of plain torch's, in turns, and how far its features are off."""
    batch = part.batch(COMPARED_BATCH)
    runs = ways(part, folder, threads)
    features = {name: run(batch).flatten(1) for name, run in runs.items()}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            started = time.perf_counter()
            run(batch)
            taken[name].append(time.perf_counter() - started)
    plain = float(np.median(taken["torch"]))
    return [
        {
            "part": part.name,
            "way": name,
            "time_ratio": float(np.median(taken[name])) / plain,
            "difference": float(
                1 - torch.cosine_similarity(features[name], features["torch"]).mean()
            ),
        }
        for name in runs
    ]


def measured(threads: int, console: Console) -> dict[str, Any]:
    torch.set_num_threads(threads)
    found = parts()
    peak = peak_flops()
    figures: dict[str, Any] = {"threads": threads, "peak_gflops": peak / 1e9}
    console.print("time of a row")
    figures["costs"] = [row for part in found for row in costs(part, peak)]
    figures["operators"] = {part.name: operators(part) for part in found}
    figures["ways"] = []
    with tempfile.TemporaryDirectory() as folder:
        # The Fourier transform of complex numbers is left to torch.
        for part in found[1:]:
            console.print(f"other ways to run: {part.name}")
            figures["ways"] += compared(part, Path(folder), threads)
    return figures


def printed(figures: dict[str, Any], console: Console) -> None:
    table = Table("part", "batch", "MFLOP a row", "ms by torch", "ms as served", "share of peak")
    for row in figures["costs"]:
        table.add_row(
            row["part"],
            str(row["batch"]),
            f"{row['mflop']:.1f}",
            f"{row['torch_ms']:.2f}",
            f"{row['ms']:.2f}",
            f"{row['share_of_peak']:.2f}",
        )
    table.caption = f"peak: {figures['peak_gflops']:.0f} GFLOP/s on {figures['threads']} thread(s)"
    console.print(table)
    table = Table("part", f"torch's operators by time, batch {COMPARED_BATCH}")
    for name, longest in figures["operators"].items():
        table.add_row(name, ", ".join(f"{key} {share:.0%}" for key, share in longest))
    console.print(table)
    table = Table("part", f"way, batch {COMPARED_BATCH}", "time / torch", "difference")
    for row in figures["ways"]:
        table.add_row(
            row["part"], row["way"], f"{row['time_ratio']:.2f}", f"{row['difference']:.1e}"
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with torch.inference_mode():
        figures = measured(arguments.threads, Console(stderr=True))
    printed(figures, Console())
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
