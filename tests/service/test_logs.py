import json
import logging
import sys

from service.logs import JsonFormatter, TextFormatter


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
