"""How much one caller may ask for: requests in a span of time, and requests at once."""

import ipaddress
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from service.errors import RateLimited, TooManyConcurrent

CONCURRENT_RETRY_SECONDS = 1

IPV6_NETWORK_BITS = 64
"""One subscriber has so many addresses: they count as one caller."""


class Limiter:
    """Counts callers' requests in this process; only the event loop's thread may call it."""

    def __init__(self, *, rate: str | None, concurrency: int | None) -> None:
        """Take the limits of callers who have none of their own; None is no limit."""
        self._rate = rate
        self._concurrency = concurrency
        self._window = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._under_way: Counter[str] = Counter()

    def count(self, caller: str, *, own_rate: str | None = None) -> dict[str, str]:
        """Count a request; return the headers that tell the caller what is left.

        The headers are those of draft-ietf-httpapi-ratelimit-headers-10. Raises RateLimited.
        """
        rate = own_rate or self._rate
        if rate is None:
            return {}
        item = parse(rate)
        allowed = self._window.hit(item, caller)
        stats = self._window.get_window_stats(item, caller)
        wait_seconds = max(1, math.ceil(stats.reset_time - time.time()))
        span_seconds = item.get_expiry()
        headers = {
            "RateLimit-Policy": f'"default";q={item.amount};w={span_seconds}',
            "RateLimit": f'"default";r={stats.remaining};t={wait_seconds}',
        }
        if not allowed:
            raise RateLimited(
                f"There were more than {item.amount} requests in {_shown_span(item)}, which is the "
                f"limit; try again in {wait_seconds} seconds, or ask for a higher limit.",
                retry_after_seconds=wait_seconds,
                limit_headers=headers,
            )
        return headers

    @contextmanager
    def one_more(self, caller: str, *, own_concurrency: int | None = None) -> Iterator[None]:
        """Count a request as under way meanwhile. Raises TooManyConcurrent."""
        limit = own_concurrency or self._concurrency
        if limit is not None and self._under_way[caller] >= limit:
            raise TooManyConcurrent(
                f"{limit} requests of yours are under way, which is the limit; wait for one of "
                "them, then send this one again.",
                retry_after_seconds=CONCURRENT_RETRY_SECONDS,
            )
        self._under_way[caller] += 1
        try:
            yield
        finally:
            self._under_way[caller] -= 1
            if not self._under_way[caller]:
                del self._under_way[caller]


def caller_at(address: str) -> str:
    """Return the name by which requests from an address are counted."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, IPV6_NETWORK_BITS), strict=False))


def _shown_span(item: RateLimitItem) -> str:
    seconds = item.get_expiry()
    return f"{seconds} seconds" if seconds > 1 else "a second"
