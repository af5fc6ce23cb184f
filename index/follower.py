"""The thread that takes over what other processes wrote to a shared catalogue."""

import logging
import threading
from collections.abc import Callable

from index.errors import LibraryError

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.25


class Follower:
    """Calls `look` every quarter of a second until stopped.

    A look that fails is told once, when it begins to fail, and repeated: meanwhile nothing new is
    learnt, and searches go on.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        """Start the thread."""
        self._look = look
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="library-follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for a look under way. Allowed more than once."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        failing = False
        while not self._stopped.wait(SECONDS_BETWEEN_LOOKS):
            try:
                self._look()
            except Exception as error:
                # Nobody else would hear of it, and a thread that ended would learn nothing more.
                if not failing:
                    trace = None if isinstance(error, LibraryError) else error
                    logger.warning(
                        "What other processes write is not learnt for now: %s",
                        error,
                        exc_info=trace,
                    )
                failing = True
            else:
                if failing:
                    logger.info("What other processes wrote is learnt again.")
                failing = False
