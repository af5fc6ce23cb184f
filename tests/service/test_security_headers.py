"""What a browser is told, by whom the service may be called, and the page of the documentation."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from model.fake import FakeEmbedder
from service.security_headers import HEADERS
from tests.service.conftest import assert_problem, file_part, make_app, store


class BrokenEmbedder(FakeEmbedder):
    def finish(self, forwarded: object) -> object:  # type: ignore[override]
        raise RuntimeError("broken")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    app = make_app(tmp_path_factory.mktemp("broken"), embedder=BrokenEmbedder())
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/model", 200),
        ("GET", "/docs", 200),
        ("GET", "/nowhere", 404),
        ("PUT", "/model", 405),
        ("POST", "/retrieve", 415),
        ("GET", "/clips/x/media", 404),
    ],
)
def test_every_answer_has_them(shared: TestClient, method: str, path: str, status: int) -> None:
    reply = shared.request(method, path)

    assert reply.status_code == status
    for name in HEADERS:
        assert reply.headers[name]
    assert reply.headers["x-content-type-options"] == "nosniff"
    policy = reply.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "access-control-allow-origin" not in reply.headers


def test_an_unexpected_error_has_them_too(broken: TestClient) -> None:
    reply = broken.post("/classify", files=file_part())

    assert reply.status_code == 500
    assert reply.headers["x-frame-options"] == "DENY"


def test_a_clips_file_keeps_its_own_stricter_policy(client: TestClient) -> None:
    reply = client.get(store(client)["media_url"])

    assert "sandbox" in reply.headers["content-security-policy"]
    assert reply.headers["cache-control"] == "private, no-cache"
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"


# The documentation's page


def test_the_documentation_needs_no_other_host_and_no_inline_script(shared: TestClient) -> None:
    page = shared.get("/docs").text

    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(addresses) == 4
    for address in addresses:
        assert not re.match(r"\w+:|//", address)
        reply = shared.get(f"/{address}")
        assert reply.status_code == 200
        assert reply.headers["content-type"].partition(";")[0] in {
            "image/png", "text/css", "text/javascript",
        }  # fmt: skip
        assert reply.headers["cache-control"] == "private, max-age=3600"
    assert "<style" not in page
    assert 'style="' not in page
    assert re.findall(r"<script(?! src=)", page) == []
    assert "SwaggerUIBundle(" in shared.get("/docs/start.js").text
    assert len(shared.get("/docs/swagger-ui-bundle.js").content) > 500_000


@pytest.mark.parametrize(
    "asset", ["nothing.js", "..%2fmain.py", "%2e%2e%2f%2e%2e%2fapp.py", "__init__.py"]
)
def test_the_documentation_serves_nothing_else(shared: TestClient, asset: str) -> None:
    assert_problem(shared.get(f"/docs/{asset}"), 404, "not_found")


# Hosts


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:9", "[::1]:8000", "[::1]"]
)
def test_this_machine_is_called_by_its_own_names(tmp_path: Path, host: str) -> None:
    app = make_app(tmp_path, allowed_hosts=())
    with TestClient(app) as client:
        assert client.get("/model", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "evil.example:8000", "", "127.0.0.1.nip.io"]
)
def test_a_name_rebound_to_this_machine_is_refused(tmp_path: Path, host: str) -> None:
    with TestClient(make_app(tmp_path, allowed_hosts=())) as client:
        for path in ("/model", "/docs", "/session"):
            reply = client.get(path, headers={"host": host})
            body = assert_problem(reply, 421, "host_not_allowed")
            assert "AVGZSL_ALLOWED_HOSTS" in body["detail"]
        assert client.get("/healthz", headers={"host": host}).status_code == 200


def test_a_service_for_others_is_called_by_any_name_unless_told_otherwise(tmp_path: Path) -> None:
    open_to_all = make_app(tmp_path / "a", host="0.0.0.0", allowed_hosts=())
    named = make_app(tmp_path / "b", host="0.0.0.0", allowed_hosts="clips.example, [::1]")
    any_name = make_app(tmp_path / "c", allowed_hosts="*")
    for app, host, status in (
        (open_to_all, "whatever.example", 200),
        (named, "clips.example:443", 200),
        (named, "[::1]", 200),
        (named, "localhost", 421),
        (any_name, "whatever.example", 200),
    ):
        with TestClient(app) as client:
            reply = client.get("/model", headers={"host": host})
            assert reply.status_code == status, host


# Other origins


def test_a_page_elsewhere_can_neither_read_nor_change(shared: TestClient) -> None:
    origin = {"origin": "https://page.example"}

    assert "access-control-allow-origin" not in shared.get("/model", headers=origin).headers
    for path, body in (
        ("/classify", {"files": file_part()}),
        ("/classes", {"json": {"name": "x"}}),
    ):
        reply = shared.post(path, headers=origin, **body)
        assert_problem(reply, 403, "cross_site_request")
    preflight = shared.options(
        "/clips/x", headers={**origin, "access-control-request-method": "DELETE"}
    )
    assert preflight.status_code == 405


def test_an_origin_that_was_named_can_use_the_api(tmp_path: Path) -> None:
    origin = {"origin": "https://page.example"}
    other = {"origin": "https://other.example"}
    app = make_app(
        tmp_path, cors_origins="https://page.example, https://two.example", require_api_keys=True
    )
    with TestClient(app) as client:
        preflight = {
            "access-control-request-method": "PATCH",
            "access-control-request-headers": "authorization,content-type",
        }
        reply = client.options("/clips/x", headers={**origin, **preflight})
        assert reply.status_code == 200
        assert reply.headers["access-control-allow-origin"] == "https://page.example"
        assert client.options("/clips/x", headers={**other, **preflight}).status_code == 400

        refused = client.post("/classify", headers=origin)
        assert_problem(refused, 401, "missing_api_key")
        assert refused.headers["access-control-allow-origin"] == "https://page.example"
        assert "Retry-After" in refused.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in refused.headers
        assert_problem(client.post("/classify", headers=other), 403, "cross_site_request")
