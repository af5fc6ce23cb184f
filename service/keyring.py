"""API keys: made, and recognised when a request brings one."""

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from datetime import UTC, datetime

from starlette.concurrency import run_in_threadpool

from index.api_keys import ApiKey, ApiKeyStore, NewApiKey, Scope
from index.errors import StorageError
from service.errors import InvalidApiKey

logger = logging.getLogger(__name__)

PREFIX = "avgzsl"
TOKEN = re.compile(PREFIX + r"_(?P<key_id>[0-9a-f]{8})_(?P<secret>[A-Za-z0-9_-]{43})")

REFRESH_SECONDS = 0.5
"""How long keys are believed before the catalogue is asked again."""

PATIENCE_SECONDS = 1.0
"""How long a request waits for the catalogue where it may go by what is known."""

NOTE_SECONDS = 60.0
"""How often it is written down when keys were last used."""


def new_key(
    name: str, scope: Scope, *, rate: str | None = None, concurrency: int | None = None
) -> tuple[NewApiKey, str]:
    """Make a key; return what is remembered of it, and the token, which is nowhere else."""
    key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    new = NewApiKey(key_id, name, scope, _hash(secret), rate=rate, concurrency=concurrency)
    return new, f"{PREFIX}_{key_id}_{secret}"


class Keyring:
    """Recognises keys, reading them from the catalogue twice a second at most.

    While the catalogue is out of reach those known last go on working, as classification does.
    """

    def __init__(self, store: ApiKeyStore) -> None:
        self._store = store
        self._keys: dict[str, ApiKey] | None = None
        self._read_at = -float("inf")
        self._reading: asyncio.Task[None] | None = None
        self._noting: asyncio.Task[None] | None = None
        self._used: dict[str, datetime] = {}
        self._noted_at = time.monotonic()
        self._failing = False

    async def recognise(self, token: str) -> ApiKey:
        """Return the key of a token. Raises InvalidApiKey, StorageError."""
        match = TOKEN.fullmatch(token)
        if match is None:
            raise InvalidApiKey(
                "The API key is not of the form 'avgzsl_ID_SECRET'; send it whole, as `avgzsl keys "
                "create` printed it."
            )
        key = (await self._current()).get(match["key_id"])
        # Compared also where there is no such key, so that an id cannot be guessed by the time.
        expected = key.secret_hash if key is not None else bytes(32)
        if not hmac.compare_digest(_hash(match["secret"]), expected) or key is None:
            raise InvalidApiKey("The API key is unknown; ask whoever runs the service for one.")
        if key.revoked_at is not None:
            raise InvalidApiKey(f"The API key {key.key_id} was revoked; ask for another.")
        self._used[key.key_id] = datetime.now(UTC)
        return key

    def close(self) -> None:
        """Write down when keys were last used."""
        self._note_use(self._used)
        self._store.close()

    async def _current(self) -> dict[str, ApiKey]:
        if time.monotonic() - self._read_at > REFRESH_SECONDS:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(run_in_threadpool(self._refresh))
            reading = self._reading
            if self._keys is None:
                await asyncio.shield(reading)
            else:
                # A catalogue that hangs must not keep those whose keys are known.
                await asyncio.wait({reading}, timeout=PATIENCE_SECONDS)
                if reading.done():
                    reading.result()
            self._note_now_and_then()
        assert self._keys is not None
        return self._keys

    def _note_now_and_then(self) -> None:
        if time.monotonic() - self._noted_at <= NOTE_SECONDS:
            return
        if self._noting is None or self._noting.done():
            # Taken here: in the thread, a request could be adding to them.
            used, self._used = self._used, {}
            self._noted_at = time.monotonic()
            self._noting = asyncio.create_task(run_in_threadpool(self._note_use, used))

    def _refresh(self) -> None:
        try:
            self._keys = {key.key_id: key for key in self._store.all()}
            self._failing = False
        except StorageError as error:
            if self._keys is None:
                raise
            if not self._failing:
                logger.warning("Changes of API keys are not learnt for now: %s", error)
            self._failing = True
        self._read_at = time.monotonic()

    def _note_use(self, used: dict[str, datetime]) -> None:
        if not used:
            return
        try:
            self._store.note_use(used)
        except StorageError as error:
            logger.warning("It could not be noted when API keys were last used: %s", error)


def _hash(secret: str) -> bytes:
    # A password is hashed slowly because it can be guessed; of 256 random bits nobody guesses one,
    # and a slow hash would only cost every request its time.
    return hashlib.sha256(secret.encode()).digest()
