"""Keys over HTTP: who gets in, how far, and what is answered to the others."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from index.api_keys import ApiKeyStore, Scope
from index.errors import StorageError
from service import keyring
from service.keyring import new_key
from tests.service.conftest import assert_problem, file_part, make_app

PATIENCE_SECONDS = 20


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(make_app(tmp_path, require_api_keys=True)) as client:
        yield client


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[ApiKeyStore]:
    store = ApiKeyStore.open(tmp_path / "library")
    yield store
    store.close()


def token(keys: ApiKeyStore, scope: Scope = "read", name: str | None = None, **own: Any) -> str:
    new, token = new_key(name or scope, scope, **own)
    keys.add(new)
    return token


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def until_status(client: TestClient, status: int, **options: Any) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (reply := client.get("/model", **options)).status_code != status:
        assert time.monotonic() < deadline, reply.text
        time.sleep(0.05)
    return reply


def test_without_a_key_nothing_is_answered_but_what_is_open(client: TestClient) -> None:
    for method, path in (
        ("GET", "/model"),
        ("GET", "/clips/x/media"),
        ("POST", "/clips"),
        ("DELETE", "/classes/x"),
        ("GET", "/nowhere"),
        ("PUT", "/clips"),
    ):
        reply = client.request(method, path)
        assert_problem(reply, 401, "missing_api_key")
        assert reply.headers["www-authenticate"] == 'Bearer realm="avgzsl"'
    for path in ("/healthz", "/readyz", "/docs", "/docs/swagger-ui.css", "/openapi.json"):
        assert client.get(path).status_code == 200, path


def test_a_key_made_while_the_service_runs_is_known_in_either_header(
    client: TestClient, keys: ApiKeyStore
) -> None:
    made = token(keys)

    for headers in (bearer(made), {"Authorization": f"bearer  {made}"}, {"X-API-Key": made}):
        assert until_status(client, 200, headers=headers)


def test_a_revoked_key_is_refused_within_a_moment(client: TestClient, keys: ApiKeyStore) -> None:
    made = token(keys)
    until_status(client, 200, headers=bearer(made))

    keys.revoke("read")

    reply = until_status(client, 401, headers=bearer(made))
    assert "revoked" in assert_problem(reply, 401, "invalid_api_key")["detail"]
    assert 'error="invalid_token"' in reply.headers["www-authenticate"]


def test_a_key_that_is_none_of_ours_is_refused(client: TestClient, keys: ApiKeyStore) -> None:
    made = token(keys)
    until_status(client, 200, headers=bearer(made))
    other = new_key("other", "admin")[1]
    mixed = made[:16] + other[16:]
    for wrong in (other, mixed, made[:-1], made + "x", made.upper(), "é", "x" * 100_000):
        reply = client.get("/model", headers={b"x-api-key": wrong.encode()})
        body = assert_problem(reply, 401, "invalid_api_key")
        assert wrong not in reply.text
        assert body["detail"]


@pytest.mark.parametrize(
    ("scope", "statuses"), [("read", (200, 403)), ("write", (200, 201)), ("admin", (200, 201))]
)
def test_a_scope_holds_the_smaller_ones(
    client: TestClient, keys: ApiKeyStore, scope: Scope, statuses: tuple[int, int]
) -> None:
    headers = bearer(token(keys, scope))
    until_status(client, 200, headers=headers)

    ask = client.post("/classify", files=file_part(), headers=headers)
    change = client.post("/clips", files=file_part(), headers=headers)

    assert (ask.status_code, change.status_code) == statuses
    if change.status_code == 403:
        assert_problem(change, 403, "insufficient_scope")
        assert 'scope="write"' in change.headers["www-authenticate"]


def test_a_classification_that_is_kept_on_disk_needs_more_than_reading(
    client: TestClient, keys: ApiKeyStore
) -> None:
    reader, writer = bearer(token(keys, "read")), bearer(token(keys, "write"))
    assert client.post("/classify", headers=reader, files=file_part()).status_code == 200
    for asked in ({"params": {"mode": "async"}}, {"data": {"mode": "async"}}):
        reply = client.post("/classify", headers=reader, files=file_part(), **asked)
        assert_problem(reply, 403, "insufficient_scope")
        reply = client.post("/classify", headers=writer, files=file_part(), **asked)
        assert reply.status_code == 202


def test_a_refused_upload_is_not_read(tmp_path: Path) -> None:
    from tests.service.test_upload import Exchange, endless

    exchange = Exchange(endless())
    exchange.run(tmp_path, settings={"require_api_keys": True})

    assert exchange.status == 401
    assert exchange.taken == 0


def test_its_last_use_is_written_down(tmp_path: Path, keys: ApiKeyStore) -> None:
    made = token(keys)
    assert keys.all()[0].last_used_at is None
    with TestClient(make_app(tmp_path, require_api_keys=True)) as client:
        assert client.get("/model", headers=bearer(made)).status_code == 200

    assert keys.all()[0].last_used_at is not None


def test_keys_known_last_work_on_while_the_catalogue_hangs(
    client: TestClient, keys: ApiKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = token(keys)
    until_status(client, 200, headers=bearer(made))
    hung, go_on = threading.Event(), threading.Event()
    whole = ApiKeyStore.all

    def hang(store: ApiKeyStore) -> Any:
        hung.set()
        assert go_on.wait(PATIENCE_SECONDS)
        return whole(store)

    monkeypatch.setattr(ApiKeyStore, "all", hang)
    monkeypatch.setattr(keyring, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(keyring, "PATIENCE_SECONDS", 0.01)
    for _ in range(3):
        assert client.get("/model", headers=bearer(made)).status_code == 200
    assert hung.wait(PATIENCE_SECONDS)

    other = token(keys, name="other")
    go_on.set()
    until_status(client, 200, headers=bearer(other))


def test_keys_known_last_work_on_while_the_catalogue_is_away(
    client: TestClient, keys: ApiKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = token(keys)
    until_status(client, 200, headers=bearer(made))
    asked = 0

    def away(_: ApiKeyStore) -> Any:
        nonlocal asked
        asked += 1
        raise StorageError("The database is away.")

    monkeypatch.setattr(keyring, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(ApiKeyStore, "all", away)
    assert client.get("/classes", headers=bearer(made)).status_code == 200
    assert asked > 0


def test_where_keys_were_never_read_nobody_gets_in(
    client: TestClient, keys: ApiKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: ApiKeyStore) -> Any:
        raise StorageError("The database is away.")

    monkeypatch.setattr(ApiKeyStore, "all", away)

    assert_problem(client.get("/model", headers=bearer(token(keys))), 507, "storage_error")


def test_a_service_without_keys_ignores_them(tmp_path: Path) -> None:
    with TestClient(make_app(tmp_path)) as client:
        assert client.get("/model", headers=bearer("whatever")).status_code == 200


def test_no_key_is_ever_logged(
    client: TestClient, keys: ApiKeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    made = token(keys)
    secret = made.rpartition("_")[2]
    with caplog.at_level("DEBUG"):
        until_status(client, 200, headers=bearer(made))
        client.post("/session", json={"api_key": made})
        client.post("/session", json={"api_key": made, "odd": 1})
        client.post("/session", json={"api_key": [made]})
    assert caplog.records
    for record in caplog.records:
        assert secret not in record.getMessage() + str(record.__dict__.get("fields"))


# Pages


def test_a_page_keeps_its_key_in_a_cookie_that_scripts_cannot_read(
    client: TestClient, keys: ApiKeyStore
) -> None:
    made = token(keys, "write")
    assert client.get("/session").json() == {
        "api_keys_required": True, "key_id": None, "name": None, "scope": None,
    }  # fmt: skip

    reply = client.post("/session", json={"api_key": made})

    assert reply.json() == {
        "api_keys_required": True, "key_id": made[7:15], "name": "write", "scope": "write",
    }  # fmt: skip
    cookie = reply.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert client.get("/session").json() == reply.json()
    clip = client.post("/clips", files=file_part()).json()
    assert client.get(clip["media_url"]).status_code == 200

    assert client.delete("/session").status_code == 204
    assert_problem(client.get(clip["media_url"]), 401, "missing_api_key")


def test_the_cookie_stays_off_plain_http_once_it_was_given_over_https(
    client: TestClient, keys: ApiKeyStore
) -> None:
    reply = client.post("https://testserver/session", json={"api_key": token(keys)})

    assert "Secure" in reply.headers["set-cookie"]


def test_no_session_without_a_key_that_works(client: TestClient) -> None:
    wrong = new_key("other", "admin")[1]

    assert_problem(client.post("/session", json={"api_key": wrong}), 401, "invalid_api_key")
    reply = client.post("/session", json={"api_key": [wrong]})
    assert_problem(reply, 422, "invalid_request")
    client.cookies.set("avgzsl_session", wrong)
    assert client.get("/session").json()["key_id"] is None
    assert_problem(client.get("/model"), 401, "invalid_api_key")


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "http://testserver:8000"},
        {"origin": "null"},
        {"origin": "http://["},
    ],
)
def test_another_sites_page_changes_nothing_by_the_cookie(
    client: TestClient, keys: ApiKeyStore, headers: dict[str, str]
) -> None:
    made = token(keys, "admin")
    assert client.post("/session", json={"api_key": made}).status_code == 200

    for method, path in (
        ("POST", "/clips"), ("POST", "/classify"), ("DELETE", "/clips/x"), ("DELETE", "/session"),
    ):  # fmt: skip
        reply = client.request(method, path, headers=headers)
        assert_problem(reply, 403, "cross_site_request")
    own = {"authorization": f"Bearer {made}"}
    reply = client.post("/classes", json={"name": "cat"}, headers={**headers, **own})
    assert reply.status_code == 201


@pytest.mark.parametrize(
    "headers",
    [{}, {"sec-fetch-site": "same-origin"}, {"origin": "http://testserver"}],
)
def test_the_services_own_page_may_change_things(
    client: TestClient, keys: ApiKeyStore, headers: dict[str, str]
) -> None:
    client.post("/session", json={"api_key": token(keys, "write")})

    assert client.post("/classes", json={"name": "cat"}, headers=headers).status_code == 201
