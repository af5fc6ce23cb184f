"""Damaged media of every container: each is answered, none with a 5xx, none hangs the service.

A seed and a number make each file, so that a failure can be made again. The samples are mutated,
and the awkward files of the data set where they are beside the project.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.service.conftest import file_part, make_app

ROOT = Path(__file__).parent.parent.parent
FOLDERS = (ROOT / "samples", ROOT.parent / "shared" / "data" / "media")
LARGEST = 300_000
DECODE_SECONDS = 5.0
SEED = 2026
"""Of the default suite's 300 files, and the slow suite's 10,000."""

Random = np.random.Generator
Mutation = Callable[[bytearray, Random], bytearray]


def flip_bits(content: bytearray, random: Random) -> bytearray:
    for place in random.integers(0, len(content), int(2 ** random.integers(0, 12))):
        content[place] ^= 1 << int(random.integers(0, 8))
    return content


def damage_head(content: bytearray, random: Random) -> bytearray:
    head = min(len(content), 512)
    for place in random.integers(0, head, int(random.integers(1, 16))):
        content[place] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF, random.integers(0, 256)]))
    return content


def cut_end(content: bytearray, random: Random) -> bytearray:
    return content[: int(random.integers(1, len(content)))]


def cut_start(content: bytearray, random: Random) -> bytearray:
    return content[int(random.integers(1, len(content))) :]


def blank_block(content: bytearray, random: Random) -> bytearray:
    start, end = sorted(random.integers(0, len(content), 2))
    content[start:end] = bytes(int(end - start))
    return content


def repeat_block(content: bytearray, random: Random) -> bytearray:
    start, end = sorted(random.integers(0, len(content), 2))
    return content[:end] + content[start:end] + content[end:]


def huge_numbers(content: bytearray, random: Random) -> bytearray:
    for place in random.integers(0, max(1, len(content) - 4), int(random.integers(1, 8))):
        content[place : place + 4] = random.choice(
            [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00", b"\x80\x00\x00\x00"]
        )
    return content


def swap_blocks(content: bytearray, random: Random) -> bytearray:
    first, second, third = sorted(random.integers(0, len(content) + 1, 3))
    return content[:first] + content[second:third] + content[first:second] + content[third:]


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    damage_head,
    cut_end,
    cut_start,
    blank_block,
    repeat_block,
    huge_numbers,
    swap_blocks,
)


def originals() -> list[Path]:
    files = (path for folder in FOLDERS if folder.is_dir() for path in folder.iterdir())
    media = (path for path in files if path.is_file() and path.suffix not in {".py", ".md", ".csv"})
    return sorted(path for path in media if 0 < path.stat().st_size <= LARGEST)


def mutated(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield names that tell how to make the file again, and contents."""
    paths = originals()
    for number in range(count):
        random = np.random.default_rng((SEED, number))
        path = paths[number % len(paths)]
        content = bytearray(path.read_bytes())
        chosen = random.choice(len(MUTATIONS), int(random.integers(1, 3)), replace=False)
        for index in chosen:
            content = MUTATIONS[index](content, random) or bytearray(b"\0")
        names = "+".join(MUTATIONS[index].__name__ for index in chosen)
        yield f"{number} ({names} of {path.name})", bytes(content)


@pytest.mark.parametrize(
    "count", [300, pytest.param(10_000, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_a_damaged_file_gets_an_answer_that_is_no_5xx(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = make_app(tmp_path, max_upload_bytes=4 * LARGEST, decode_timeout_seconds=DECODE_SECONDS)
    answers: Counter[str] = Counter()
    with TestClient(app) as client:
        for name, content in mutated(count):
            reply = client.post("/classify", files=file_part(content, "clip"), data={"top_k": 1})
            assert reply.status_code < 500, f"{name}: {reply.text}"
            code = "answered" if reply.status_code == 200 else reply.json()["code"]
            answers[code] += 1
        assert client.get("/readyz").status_code == 200
    with capsys.disabled():
        print(f"\n{count} damaged files: {dict(answers.most_common())}")
    assert answers["answered"] > 0
    assert sum(answers.values()) == count
