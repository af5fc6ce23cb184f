import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.cli import greet, listening_socket
from service.settings import Settings

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "faiss", "sentence_transformers", "transformers")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("module", ["service.cli", "service.app"])
def test_importing_is_cheap(module: str) -> None:
    code = f"import {module}, sys; print([m for m in {HEAVY} if m in sys.modules])"

    assert run("-c", code).stdout.strip() == "[]"


def test_help_loads_neither_the_application_nor_its_libraries() -> None:
    code = (
        "import sys\nfrom service.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('fastapi', 'pydantic', 'numpy', 'torch') if m in sys.modules])"
    )

    result = run("-c", code)

    assert "serve" in result.stdout
    assert result.stdout.strip().endswith("[]")


def test_help_and_version_answer() -> None:
    assert "serve" in run("-m", "service", "--help").stdout
    assert "--port" in run("-m", "service", "serve", "--help").stdout
    assert run("-m", "service", "--version").stdout.startswith("avgzsl ")


def test_an_answer_does_not_wait_for_the_client_to_acknowledge_its_beginning() -> None:
    async def without_delay() -> bool:
        accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.Future()
        server = await asyncio.start_server(
            lambda _, writer: accepted.set_result(writer), sock=listener
        )
        async with server:
            _, client = await asyncio.open_connection(*listener.getsockname())
            writer = await accepted
            connection = writer.get_extra_info("socket")
            flag = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            client.close()
            writer.close()
        return bool(flag)

    with listening_socket(Settings(port=0)) as listener:
        assert asyncio.run(without_delay())


def test_the_greeting_names_a_sample_that_exists(capsys: pytest.CaptureFixture[str]) -> None:
    greet("0.0.0.0", 8000)

    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if "curl" in line]
    assert len(lines) == 3
    assert all("http://127.0.0.1:8000/" in line for line in lines)
    sample = lines[0].split("@")[1].split()[0]
    assert (ROOT / sample).is_file()


def test_a_bad_setting_is_one_line(tmp_path: Path) -> None:
    result = run("-m", "service", "serve", AVGZSL_DECODE_WORKERS="none")

    assert result.returncode == 1
    assert result.stderr.startswith("avgzsl: AVGZSL_DECODE_WORKERS is 'none': ")
    assert result.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        started = time.monotonic()

        result = run("-m", "service", "serve", "--port", port, "--data-dir", str(tmp_path / "d"))

    assert result.returncode == 1
    assert "already in use" in result.stderr
    assert "--port" in result.stderr
    assert "Traceback" not in result.stderr
    assert time.monotonic() - started < 20
    assert not (tmp_path / "d").exists()
