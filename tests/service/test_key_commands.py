"""`avgzsl keys`, beside a service that runs."""

import json
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner, Result

from service.cli import app
from tests.service.conftest import make_app


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVGZSL_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def keys(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["keys", *arguments])
    assert result.exit_code == status, result.output
    return result


def test_a_key_is_made_used_listed_and_revoked_while_the_service_runs(data_dir: Path) -> None:
    with TestClient(make_app(data_dir, require_api_keys=True)) as client:
        token = keys("create", "phone", "--scope", "write", "--rate", "9/day").stdout.strip()
        assert token.startswith("avgzsl_")
        time.sleep(0.6)
        reply = client.post("/classes", json={"name": "cat"}, headers={"x-api-key": token})
        assert reply.status_code == 201
        assert reply.headers["ratelimit-policy"] == '"default";q=9;w=86400'

        key_id = json.loads(keys("revoke", "phone", "--json").stdout)["key_id"]
        time.sleep(0.6)
        assert client.get("/model", headers={"x-api-key": token}).status_code == 401

    (listed,) = json.loads(keys("list", "--json").stdout)
    assert (listed["key_id"], listed["name"], listed["scope"]) == (key_id, "phone", "write")
    assert listed["revoked_at"] > listed["created_at"]
    assert listed["last_used_at"] is not None
    assert "key" not in listed
    assert key_id in keys("list").stdout


def test_the_key_alone_goes_to_standard_output(data_dir: Path) -> None:
    result = keys("create", "phone")

    assert result.stdout.count("\n") == 1
    assert "this once" in result.stderr
    secret = result.stdout.strip().rpartition("_")[2]
    for path in data_dir.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()


def test_as_json_it_says_all_of_it(data_dir: Path) -> None:
    made = json.loads(keys("create", "phone", "--concurrency", "3", "--json").stdout)

    assert made["key"].startswith(f"avgzsl_{made['key_id']}_")
    assert (made["scope"], made["concurrency"], made["rate"]) == ("read", 3, None)


def test_what_cannot_be_is_told_in_a_line(data_dir: Path) -> None:
    keys("create", "phone")
    for arguments, told in (
        (("create", "phone"), "'phone' is in use"),
        (("create", " "), "blank"),
        (("create", "b", "--rate", "often"), "600/minute"),
        (("revoke", "nobody"), "'nobody'"),
    ):
        result = keys(*arguments, status=1)
        assert told in result.stderr
        assert result.stderr.count("\n") == 1
