"""Run the benchmarks and write what they printed, and on what, to `benchmarks/REPORT.md`.

    python benchmarks/report.py [--only NAME ...] [--again] [--data FOLDER]

What a benchmark printed is kept in `benchmarks/results/report`, so a report that was interrupted
goes on with the next one; `--again` runs those that are there. `--data` names the folder of the
media that the accuracy of the bundled model is measured on. All of it takes hours on two cores,
which should do nothing else meanwhile: the report says how long each took.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "report"
REPORT = ROOT / "benchmarks" / "REPORT.md"
PACKAGES = ("torch", "faiss-cpu", "fastapi", "av", "lancedb", "milvus-lite", "litserve", "ray")
COLUMNS = "110"
FIGURE_INCHES = (7.0, 3.2)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A command whose output belongs into the report.

    Attributes:
        name: of its files, and for `--only`.
        title: of its section.
        command: after `python`; `DATA` stands for the folder of `--data`.
        says: what to look at, and what limits it.
        has_figures: whether it takes `--json`.
    """

    name: str
    title: str
    command: tuple[str, ...]
    says: str
    has_figures: bool = True


BENCHMARKS = (
    Benchmark(
        "accuracy",
        "Quality of the bundled model",
        ("benchmarks/bundled_accuracy.py", "--data", "DATA"),
        "Samples that nothing was trained on; choices were made by looking at them, but for the "
        "street's pairs. Beside each figure the teacher with ConSE, and chance. Zero-shot tables "
        "with their spread over seeds: [zero_shot_tables.md](../docs/zero_shot_tables.md).",
    ),
    Benchmark(
        "latency",
        "One clip, part by part",
        ("benchmarks/serving.py", "latency"),
        "A request through HTTP beside bare PyAV and the bare model on the same frames, in turns.",
    ),
    Benchmark(
        "hot_path",
        "What a window costs, and other ways to run the model",
        ("benchmarks/hot_path.py", "--threads", "2"),
        "Best of fifteen; the other ways by the median of turns. On a CPU the service sends eight "
        "rows through at a time.",
    ),
    Benchmark(
        "throughput",
        "Many clients, beside other servers",
        ("benchmarks/serving.py", "throughput", "--peers", "litserve", "ray", "--seconds", "8"),
        "Medians of three rounds, servers one after the other. `batcher` has its clips decoded "
        "beforehand, as the model alone has. Where all cores work on the model, no server can be "
        "faster than `model alone`. The peers have two workers of one thread each, which is their "
        "best for many clients; with one client one of them has nothing to do.",
    ),
    Benchmark(
        "overload",
        "Ten times what it can take",
        ("benchmarks/endurance.py", "--overload"),
        "Every answer must be the one that the clip got alone, or a 429.",
    ),
    Benchmark(
        "endurance",
        "Thousands of clips",
        ("benchmarks/endurance.py", "--clips", "5000"),
        "Memory, descriptors and processes of the server and its children, from the 500th clip on.",
    ),
    Benchmark(
        "index_10000",
        "Search among 10,000 windows",
        ("benchmarks/index_scale.py", "--segments", "10000", "--peers"),
        "Each contender alone, on one thread; milliseconds a search. So few are searched exactly.",
    ),
    Benchmark(
        "index_100000",
        "Search among 100,000 windows",
        ("benchmarks/index_scale.py", "--segments", "100000", "--peers"),
        "Each contender alone, on one thread; milliseconds a search.",
    ),
    Benchmark(
        "index_1000000",
        "Search among a million windows",
        (
            "benchmarks/index_scale.py",
            *("--segments", "1000000"),
            *("--only", "faiss flat", "faiss ivf", "FaissStore", "Library", "Library sq8"),
        ),
        "The same without what takes hours there. `start_seconds` is a start after a clean stop, "
        "`memory_ratio` what is resident over what the vectors take.",
    ),
    Benchmark(
        "milvus_1000000",
        "A million windows in Milvus Lite",
        ("benchmarks/index_scale.py", "--segments", "1000000", "--only", "milvus lite"),
        "Beside `faiss flat` above: `identical` is the share of queries whose ten windows are the "
        "same in the same order. Milvus Lite compares with every vector.",
    ),
    Benchmark(
        "index_10000000",
        "Search among ten million windows",
        ("benchmarks/index_scale.py", "--segments", "10000000", "--only", "Library sq8"),
        "A byte for each number, and what is found compared once more by the catalogue's vectors.",
    ),
    Benchmark(
        "crashes",
        "Killed and refused",
        (
            *("-m", "pytest", "-n", "2", "-q", "-rp", "-m", "slow"),
            "tests/index/test_library_crash.py",
            "tests/index/test_library_reindexing_crash.py",
            "tests/index/test_library_faults.py",
            "tests/service/test_jobs_crash.py",
        ),
        "SIGKILL at random moments, as often as the brackets say: while clips come and go, while "
        "the model is changed, while a library is saved, restored or mended, and while a folder "
        "is imported; and every single write of an operation failing, once or from then on.",
        has_figures=False,
    ),
)


@dataclass(frozen=True, slots=True)
class Record:
    """What one run of a benchmark printed."""

    command: str
    began: str
    seconds: float
    machine: str
    versions: Mapping[str, str]
    output: str


def is_recorded(benchmark: Benchmark) -> bool:
    """Whether the very command has been run: what a former one printed says less, or another."""
    file = _record_file(benchmark)
    return file.exists() and _read(file).command == _shown(benchmark.command)


def _read(file: Path) -> Record:
    return Record(**json.loads(file.read_text("utf-8")))


def recorded(benchmark: Benchmark, data: Path | None) -> Record:
    """Run a benchmark. Raises CalledProcessError where it fails."""
    arguments = [str(data) if word == "DATA" else word for word in benchmark.command]
    if benchmark.has_figures:
        arguments += ["--json", str(_figures_file(benchmark))]
    began, started = datetime.now(UTC), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": COLUMNS, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Record(
        command=_shown(benchmark.command),
        began=began.isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - started, 1),
        machine=_machine(),
        versions=_versions(),
        output=done.stdout.strip(),
    )


def _shown(command: Sequence[str]) -> str:
    return " ".join(["python", *(f'"{word}"' if " " in word else word for word in command)])


def _machine() -> str:
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, Python {sys.version.split()[0]}"


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


# --- the report ----------------------------------------------------------------------------------


def report() -> str:
    """Put together what is recorded, in the order of `BENCHMARKS`."""
    parts = [
        "# What was measured",
        "`make bench` runs these commands one after the other and writes this file. Times are of "
        "one machine; compare them within a table.",
    ]
    for benchmark in BENCHMARKS:
        if not _record_file(benchmark).exists():
            continue
        record = _read(_record_file(benchmark))
        versions = ", ".join(f"{name} {number}" for name, number in record.versions.items())
        parts += [
            f"## {benchmark.title}",
            benchmark.says,
            f"```text\n$ {record.command}\n\n{record.output}\n```",
            *(f"![{benchmark.title}]({drawn})" for drawn in _drawings(benchmark)),
            f"{record.began}, {record.seconds:.0f} s; {record.machine}; {versions}.",
        ]
    return "\n\n".join(parts) + "\n"


def _drawings(benchmark: Benchmark) -> list[str]:
    """Draw what is easier to see than to read; return paths beside the report."""
    draw = {"throughput": _draw_throughput, "index_100000": _draw_searches}.get(benchmark.name)
    if draw is None:
        return []
    figures = json.loads(_figures_file(benchmark).read_text("utf-8"))
    figure, axes = plt.subplots(figsize=FIGURE_INCHES, layout="constrained")
    draw(axes, figures)
    file = RESULTS / f"{benchmark.name}.svg"
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return [file.relative_to(REPORT.parent).as_posix()]


def _draw_throughput(axes: Any, figures: Mapping[str, Any]) -> None:
    clients = [str(count) for count in figures["clients"]]
    of_rounds = figures["rounds"]
    servers = [name for name, found in of_rounds[0].items() if _is_server(found)]
    width = 0.8 / len(servers)
    for place, name in enumerate(servers):
        reached = [[r[name][count]["per_second"] for r in of_rounds] for count in clients]
        middle = [sorted(values)[len(values) // 2] for values in reached]
        errors = [
            [m - min(values) for m, values in zip(middle, reached, strict=True)],
            [max(values) - m for m, values in zip(middle, reached, strict=True)],
        ]
        places = [number + place * width for number in range(len(clients))]
        axes.bar(places, middle, width, yerr=errors, label=name)
    alone = sorted(r["model alone"] for r in of_rounds)[len(of_rounds) // 2]
    axes.axhline(alone, color="black", linestyle=":", label="model alone")
    axes.set_xticks([n + 0.4 - width / 2 for n in range(len(clients))], clients)
    axes.set_xlabel("clients")
    axes.set_ylabel("clips a second; lines: least and most")
    axes.legend(fontsize="small")


def _is_server(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(value, dict) for value in found.values())


def _draw_searches(axes: Any, figures: Mapping[str, Any]) -> None:
    found = {name: f for name, f in figures["figures"].items() if "p50_ms" in f}
    names = list(found)[::-1]
    axes.barh(names, [found[name]["p50_ms"] for name in names])
    axes.set_xscale("log")
    axes.set_xlabel("median of a search in milliseconds (logarithmic)")


def _record_file(benchmark: Benchmark) -> Path:
    return RESULTS / f"{benchmark.name}.json"


def _figures_file(benchmark: Benchmark) -> Path:
    return RESULTS / f"{benchmark.name}.figures.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument("--only", nargs="*", choices=names, default=names, metavar="NAME")
    parser.add_argument("--again", action="store_true", help="run those too that are recorded")
    parser.add_argument("--data", type=Path, help="folder of esc10/, images/ ...")
    options = parser.parse_args()
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "report"  # Else ids differ each time.
    console = Console(stderr=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    failed = []
    for number, benchmark in enumerate(BENCHMARKS, 1):
        title = f"{number} of {len(BENCHMARKS)}, {benchmark.name}"
        if benchmark.name not in options.only:
            continue
        if is_recorded(benchmark) and not options.again:
            console.print(f"{title}: recorded already")
        elif "DATA" in benchmark.command and options.data is None:
            console.print(f"{title}: left out, as --data names no folder")
        else:
            console.print(f"{title}: {_shown(benchmark.command)}")
            try:
                record = recorded(benchmark, options.data)
            except subprocess.CalledProcessError as error:
                console.print(f"{title}: failed with {error.returncode}", style="red")
                failed.append(benchmark.name)
                continue
            _record_file(benchmark).write_text(json.dumps(asdict(record), indent=2) + "\n", "utf-8")
        REPORT.write_text(report(), "utf-8")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
