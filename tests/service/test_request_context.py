import logging

import pytest
from starlette.testclient import TestClient


def test_every_answer_has_a_request_id_of_its_own(shared: TestClient) -> None:
    ids = {shared.get(path).headers["x-request-id"] for path in ("/healthz", "/nowhere", "/model")}

    assert len(ids) == 3


def test_a_sane_request_id_is_taken_over(shared: TestClient) -> None:
    reply = shared.get("/healthz", headers={"x-request-id": "trace-1.2_3"})

    assert reply.headers["x-request-id"] == "trace-1.2_3"


@pytest.mark.parametrize("offered", ["", "a b", "x" * 129, "é", '"><script>'])
def test_another_is_replaced(shared: TestClient, offered: str) -> None:
    reply = shared.get("/healthz", headers={b"x-request-id": offered.encode()})

    assert len(reply.headers["x-request-id"]) == 32


def test_every_request_leaves_one_line_in_the_access_log(
    shared: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "service.access"):
        shared.get("/clips/no%0Abody", headers={"x-request-id": "call-7"})

    (record,) = [r for r in caplog.records if r.name == "service.access"]
    fields = record.__dict__["fields"]
    assert fields.pop("milliseconds") >= 0
    assert fields == {
        "request_id": "call-7",
        "method": "GET",
        "path": "/clips/no\nbody",
        "status": 404,
    }
