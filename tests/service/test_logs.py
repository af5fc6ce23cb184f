import json
import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from index.library import Library
from service.keyring import new_key
from service.logs import JsonFormatter, TextFormatter, configure_logging, log_context
from tests.service.conftest import make_app


def record(message: str = "request", **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("service.access", logging.INFO, __file__, 1, message, (), None)
    made.fields = fields
    return made


def test_json_lines_carry_the_fields() -> None:
    entry = json.loads(JsonFormatter().format(record(status=200, path="/a\nb")))

    assert entry.items() >= {"level": "info", "message": "request", "status": 200}.items()
    assert entry["path"] == "/a\nb"
    assert entry["time"].endswith("Z")


def test_text_lines_cannot_be_forged_by_a_path() -> None:
    line = TextFormatter().format(record(status=200, path="/a\nb status=500"))

    assert line.endswith('service.access: request status=200 path="/a\\nb status=500"')
    assert "\n" not in line


def test_an_exception_is_told_in_both() -> None:
    made = record()
    try:
        raise ValueError("odd")
    except ValueError:
        made.exc_info = sys.exc_info()

    assert "ValueError: odd" in json.loads(JsonFormatter().format(made))["exception"]
    assert "ValueError: odd" in TextFormatter().format(made)


def test_a_line_says_whose_it_is_and_the_record_comes_first() -> None:
    with log_context(request_id="call-7"), log_context(job_id="j"):
        entry = json.loads(JsonFormatter().format(record(job_id="k")))
        assert (entry["request_id"], entry["job_id"]) == ("call-7", "k")
        assert " request_id=call-7 job_id=j" in TextFormatter().format(record())
    assert "request_id" not in TextFormatter().format(record())


@pytest.fixture
def _own_logging() -> Any:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.usefixtures("_own_logging")
def test_threads_say_it_too_and_every_line_is_json(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Library.search

    def talking_search(*args: Any, **options: Any) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        logging.getLogger("index.talk").info("searching")
        return search(*args, **options)

    monkeypatch.setattr(Library, "search", talking_search)
    configure_logging("json", "info")
    with TestClient(make_app(tmp_path)) as client:
        for request_id in ("call-7", "call-8"):
            client.post("/retrieve", json={"query": "x"}, headers={"x-request-id": request_id})

    entries = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    for name in ("index.talk", "service.access"):
        assert [e["request_id"] for e in entries if e["logger"] == name] == ["call-7", "call-8"]


def test_no_secret_is_written_whoever_tells_it() -> None:
    token = new_key("a", "read")[1]
    secret = token.rpartition("_")[2]
    made = record(f"got {token}", url="postgresql://me:swordfish@host/db", token=token)
    try:
        raise ValueError(f"{token} postgresql://me:swordfish@host/db")
    except ValueError:
        made.exc_info = sys.exc_info()

    for formatter in (JsonFormatter(), TextFormatter()):
        line = formatter.format(made)
        assert secret not in line
        assert "swordfish" not in line
        assert token[:15] in line
    json.loads(JsonFormatter().format(made))


def test_numbers_that_are_not_finite_are_json_all_the_same() -> None:
    line = JsonFormatter().format(record(loss=float("nan"), most=float("inf"), odd="\ud800"))

    def refuse(constant: str) -> None:
        pytest.fail(constant)

    assert json.loads(line, parse_constant=refuse)["loss"] == "NaN"
