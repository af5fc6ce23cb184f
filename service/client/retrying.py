"""Which requests are sent again, and when: the policy; httpx-retries does it.

A 429 and a connection that never came about mean that the service has done nothing, so anything is
sent again. After a connection that broke, and after a 503, it may have: then only what does no
more when it is done twice. A timeout is not tried again: the service may still be at work on it,
and a second one would double its load.
"""

import random
from typing import Any

import httpx
from httpx_retries import Retry

from service.client.calls import Call

BACKOFF_SECONDS = 0.25
MAX_WAIT_SECONDS = 60.0

NEVER_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout)
BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
ALL_METHODS = ("GET", "POST", "PATCH", "DELETE")


class SpreadRetry(Retry):
    """Waits as long as `Retry-After` says and a little more: clients refused together should not
    come back together.
    """

    def parse_retry_after(self, retry_after: str) -> float:
        """Return seconds to wait."""
        return super().parse_retry_after(retry_after) * random.uniform(1.0, 1.25)


def retry_policy(call: Call[Any], retries: int) -> Retry:
    """Return when a call is sent again, `retries` times at most."""
    statuses = (429, 503) if call.repeatable and call.patient else (429,)
    errors = (*NEVER_CONNECTED, *BROKEN) if call.repeatable else NEVER_CONNECTED
    if call.upload is not None and not call.upload.can_be_sent_again:
        retries = 0
    return SpreadRetry(
        total=retries,
        allowed_methods=ALL_METHODS,
        status_forcelist=statuses,
        retry_on_exceptions=errors,
        backoff_factor=BACKOFF_SECONDS,
        max_backoff_wait=MAX_WAIT_SECONDS,
    )
