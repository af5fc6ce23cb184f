"""Whether the service stays the same over thousands of clips, and right when there are too many.

    python benchmarks/endurance.py [--clips 5000] [--media FOLDER ...] [--json FILE]
    python benchmarks/endurance.py --overload [--times 10] [--seconds 60]

The first prints the memory, descriptors and processes of the server and its children while mixed
clips go through it: classified, stored and removed, searched by. The second measures what the
server takes, then sends `--times` as much for `--seconds`: every answer has to be the one that the
same clip got alone, or a 429.
"""

import argparse
import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from load import ROOT, Answer, Clip, clips_of, closed_loop, open_loop
from rich.console import Console
from rich.progress import track
from rich.table import Table
from servers import Server, avgzsl

WARM = 500
"""Clips after which memory counts: by then every path was taken and every cache filled."""
CLIENTS = 8
SAMPLES_OF_USAGE = 20


async def store_and_remove(client: httpx.AsyncClient, clip: Clip) -> int:
    stored = await client.post("/clips", files=clip.files(), data={"tags": ["endurance"]})
    if stored.status_code != httpx.codes.CREATED:
        return stored.status_code
    removed = await client.delete(f"/clips/{stored.json()['clip_id']}")
    return removed.status_code


async def search_by(client: httpx.AsyncClient, clip: Clip) -> int:
    return (await client.post("/retrieve/by-file", files=clip.files())).status_code


async def classify_windows(client: httpx.AsyncClient, clip: Clip) -> int:
    answer = await client.post("/classify", files=clip.files(), data={"windows": "true"})
    return answer.status_code


ROUND = (*3 * (classify_windows,), store_and_remove, search_by)
"""Of five clips three are classified, one is stored and removed, one is searched by."""


def endurance(
    server: Server, clips: Sequence[Clip], count: int, console: Console
) -> dict[str, Any]:
    """Send `count` clips and return what the server held on the way."""
    turn = itertools.cycle(clips)
    kinds = itertools.cycle(ROUND)
    statuses: dict[int, int] = {}

    async def portion(size: int) -> None:
        room = asyncio.Semaphore(CLIENTS)
        async with httpx.AsyncClient(base_url=server.url, timeout=300.0) as client:

            async def one() -> None:
                async with room:
                    status = await next(kinds)(client, next(turn))
                    statuses[status] = statuses.get(status, 0) + 1

            await asyncio.gather(*(one() for _ in range(size)))

    started = time.perf_counter()
    asyncio.run(portion(min(WARM, count)))
    usages = [server.usage()]
    sizes = [len(part) for part in _parts(count - WARM, SAMPLES_OF_USAGE)]
    for size in track(sizes, "clips", console=console):
        asyncio.run(portion(size))
        usages.append(server.usage())
    first, last = usages[0], usages[-1]
    return {
        "clips": count,
        "seconds": time.perf_counter() - started,
        "statuses": statuses,
        "mib": [round(u.proportional_bytes / 2**20, 1) for u in usages],
        "growth": last.proportional_bytes / first.proportional_bytes - 1,
        "descriptors": [u.descriptors for u in usages],
        "processes": [u.processes for u in usages],
    }


def overload(
    server: Server, clips: Sequence[Clip], times: float, seconds: float, clients: int
) -> dict[str, Any]:
    """Send `times` the throughput that `clients` reach, and compare every answer."""
    alone = closed_loop(server.url, clips, clients=1, seconds=5 + len(clips))
    expected = {answer.clip.name: _labels(answer) for answer in alone.ok()}
    full = closed_loop(server.url, clips, clients=clients, seconds=15)
    over = open_loop(server.url, clips, rate=times * full.throughput(), seconds=seconds)
    wrong = [a for a in over.ok() if _labels(a) != expected[a.clip.name]]
    other = {s: n for s, n in over.statuses().items() if s not in (200, 429)}
    with httpx.Client(base_url=server.url, timeout=60.0) as client:
        ready = client.get("/readyz").status_code
    return {
        "capacity_per_second": full.throughput(),
        "sent_per_second": len(over.answers) / over.seconds,
        "statuses": over.statuses(),
        "wrong_answers": len(wrong),
        "other_statuses": other,
        "connection_errors": dict(Counter(a.body for a in over.answers if a.status == 0)),
        "p95_ratio": over.milliseconds(0.95) / full.milliseconds(0.95),
        "accepted_throughput_ratio": over.throughput() / full.throughput(),
        "readyz_after": ready,
    }


def _labels(answer: Answer) -> list[str]:
    # A batch's order of summation moves the last digits, never the names that stand out.
    return [label["name"] for label in answer.body["labels"][:1]]


def _parts(count: int, parts: int) -> list[range]:
    edges = [round(count * number / parts) for number in range(parts + 1)]
    return [range(start, end) for start, end in itertools.pairwise(edges) if end > start]


def printed(figures: dict[str, Any], console: Console) -> None:
    table = Table("figure", "value")
    for name, value in figures.items():
        shown = f"{value:.3f}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), shown)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--media", type=Path, nargs="*", default=[], help="more clips than samples")
    parser.add_argument("--overload", action="store_true")
    parser.add_argument("--times", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=16, help="that fill the server's capacity")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    console = Console(stderr=True)
    clips = clips_of([ROOT / "samples", *arguments.media])
    with avgzsl() as server:
        if arguments.overload:
            figures = overload(server, clips, arguments.times, arguments.seconds, arguments.clients)
        else:
            figures = endurance(server, clips, arguments.clips, console)
    printed(figures, Console())
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
