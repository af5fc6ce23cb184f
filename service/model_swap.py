"""The change to another model while the service answers: loaded, warmed up, re-indexed, exchanged.

The former model answers until the one moment at which library and service change together.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from index.job_types import JobFailure
from model.embedding import ModelCard
from model.errors import ModelError
from service.allowed_folders import AllowedFolders
from service.chosen_model import Choice, ChosenModel
from service.errors import (
    ModelFolderNotFound,
    ModelRefused,
    NoSwap,
    SwapNotPossible,
    SwapUnderWay,
    problem_of,
)
from service.pipeline import Pipeline
from service.reindexing import EmbedderAsNewModel
from service.retrieval import modality_weights
from service.serving import ServedModel, Serving
from service.settings import Settings

if TYPE_CHECKING:
    from index.library import Library
    from index.reindexing import Reindexing

logger = logging.getLogger(__name__)

BUNDLED = "bundled"

State = Literal["loading", "reindexing", "done", "failed", "cancelled"]
UNFINISHED: tuple[State, ...] = ("loading", "reindexing")


@dataclass(frozen=True, slots=True)
class SwapStatus:
    """The latest change, as far as it is.

    Attributes:
        model: what was asked for, `bundled` or a folder.
        state: `loading` includes the warm-up.
        card: what the model is, once it is loaded.
        failure: why, where it failed.
    """

    model: str
    state: State
    started_at: datetime
    finished_at: datetime | None = None
    card: ModelCard | None = None
    failure: JobFailure | None = None


class _Cancelled(Exception):
    """Somebody has given the change up."""


class ModelSwap:
    """Changes the model, once at a time, in a thread. Any thread may call any method.

    Args:
        settings: which model and folders there are.
        library: changes with the model.
        serving: what answers.
        load: loads a model by its name, `bundled` or a folder, behind batchers of its own.
        served: makes of it what answers.
        possible: whether the model runs where it can be exchanged.
    """

    def __init__(
        self,
        settings: Settings,
        library: "Library",
        serving: Serving,
        *,
        load: Callable[[str], Pipeline],
        served: Callable[[Pipeline], ServedModel],
        possible: bool = True,
    ) -> None:
        self._settings = settings
        self._library = library
        self._serving = serving
        self._load = load
        self._served = served
        self._possible = possible
        self._chosen = ChosenModel(settings.data_dir, setting=settings.model)
        self._folders = AllowedFolders(
            settings.model_roots,
            setting="AVGZSL_MODEL_ROOTS",
            purpose="loaded",
            refused=ModelRefused,
            missing=ModelFolderNotFound,
        )
        self._lock = threading.Lock()
        self._status: SwapStatus | None = None
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._given_up = False
        self._reindexing: Reindexing | None = None

    @property
    def status(self) -> SwapStatus | None:
        """The change that is under way, or the latest; None where there was none."""
        return self._status

    def start(self, model: str, *, accept_failures: bool = False) -> SwapStatus:
        """Begin a change, which goes on in a thread.

        Args:
            model: `bundled`, what the settings name, or a folder below one of the roots.
            accept_failures: change even if the new model can embed few of the stored clips.

        Raises:
            ModelRefused, ModelFolderNotFound: the folder may not or cannot be loaded.
            SwapUnderWay: another change has not ended.
            SwapNotPossible: other processes share the catalogue, or hold the model; they would not
                change along.
        """
        if model not in (BUNDLED, self._settings.model):
            model = str(self._folders.folder(model))
        if not self._possible:
            raise SwapNotPossible(
                "The copies of the model are processes of their own on Ray, and would not change "
                "along: stop the service, run `avgzsl library reindex` with the other model, and "
                "start it with that."
            )
        if self._settings.catalogue_url is not None:
            raise SwapNotPossible(
                "Other replicas may share this service's catalogue, and would not change along: "
                "stop them, run `avgzsl library reindex` with the other model, and start all with "
                "it."
            )
        with self._lock:
            if self._status is not None and self._status.state in UNFINISHED:
                raise SwapUnderWay(
                    f"The change to {self._status.model} is {self._status.state}; wait for its "
                    "end, which GET /model tells, or give it up with DELETE /model/swap."
                )
            self._stopped.clear()
            self._given_up = False
            status = self._status = SwapStatus(model, "loading", datetime.now(UTC))
            self._thread = threading.Thread(
                target=self._run, args=(model, accept_failures), name="model-swap"
            )
            self._thread.start()
        return status

    def cancel(self) -> None:
        """Let the change be given up, which its state tells; what was embedded for it is deleted.

        A model that is being loaded is waited for, but not here. Raises NoSwap where no change is
        under way.
        """
        with self._lock:
            if self._status is None or self._status.state not in UNFINISHED:
                raise NoSwap("No change to another model is under way; GET /model shows the last.")
            self._given_up = True
            self._stop()

    def close(self) -> None:
        """Stop, and wait for it; what was embedded stays for a change to the same model."""
        with self._lock:
            self._stop()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _stop(self) -> None:
        self._stopped.set()
        if self._reindexing is not None:
            self._reindexing.stop()

    def _run(self, model: str, accept_failures: bool) -> None:
        try:
            state = self._outcome(model, accept_failures=accept_failures)
        except Exception as error:
            self._end("failed", _failure(error))
            logger.error("the change to the model %s failed", model, exc_info=error)
        else:
            self._end(state)
            logger.info("the change to the model %s is %s", model, state)

    def _outcome(self, model: str, *, accept_failures: bool) -> State:
        try:
            self._change(model, accept_failures=accept_failures)
        except _Cancelled:
            if self._given_up:
                self._library.cancel_reindexing()
            return "cancelled"
        return "done"

    def _change(self, model: str, *, accept_failures: bool) -> None:
        with ExitStack() as abandoning:
            pipeline = self._load(model)
            abandoning.callback(pipeline.engine.close)
            pipeline.engine.warm_up()
            card = pipeline.engine.embedder.card
            self._note(card=card)
            if card.model_id == self._serving.current.card.model_id:
                return
            self._check_not_stopped()
            replacement = self._served(pipeline)

            def exchange() -> None:
                self._serving.replace(replacement)
                abandoning.pop_all()

            choice = Choice(model, card.space_id)
            if card.space_id == self._library.model_id:
                self._library.reweigh(
                    modality_weights(pipeline.engine.embedder.calibration), exchange
                )
                self._chosen.choose(choice)
                return
            # Before: it counts only once the library is of this space.
            self._chosen.choose(choice)
            self._reindex(pipeline, exchange, accept_failures=accept_failures)

    def _reindex(
        self, pipeline: Pipeline, exchange: Callable[[], None], *, accept_failures: bool
    ) -> None:
        with self._lock:
            self._check_not_stopped()
            self._reindexing = self._library.reindexing(
                EmbedderAsNewModel(pipeline), on_swap=exchange
            )
        self._note(state="reindexing")
        try:
            # One clip at a time: requests need decoders too.
            summary = self._reindexing.run(accept_failures=accept_failures)
        finally:
            with self._lock:
                self._reindexing = None
        if not summary.finished:
            raise _Cancelled

    def _check_not_stopped(self) -> None:
        if self._stopped.is_set():
            raise _Cancelled

    def _note(self, *, state: State = "loading", card: ModelCard | None = None) -> None:
        assert self._status is not None, "it began"
        self._status = replace(self._status, state=state, card=card or self._status.card)

    def _end(self, state: State, failure: JobFailure | None = None) -> None:
        assert self._status is not None, "it began"
        self._status = replace(
            self._status, state=state, finished_at=datetime.now(UTC), failure=failure
        )


def _failure(error: Exception) -> JobFailure:
    problem = problem_of(error)
    if problem is not None:
        return JobFailure(problem.code, str(error))
    if isinstance(error, ModelError):
        return JobFailure("model_unusable", str(error))
    return JobFailure("internal_error", "The model failed as it was loaded; the log says why.")
