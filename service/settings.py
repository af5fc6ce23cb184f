"""Every setting of the service and its client, its default and range: the variables `AVGZSL_*`."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from index.registry import STORES, check_store
from service.redaction import redacted

PREFIX = "AVGZSL_"

MIB = 2**20
GIB = 2**30

DEFAULT_URL = "http://127.0.0.1:8000"

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")

Names = Annotated[tuple[str, ...], NoDecode]
"""Several words in one variable, with commas between them."""

Folders = Annotated[tuple[Path, ...], NoDecode]
"""Several folders in one variable, as PATH has them."""


class SettingsError(Exception):
    """A setting has a value that cannot be used; the message names its variable."""


class Settings(BaseSettings):
    """Settings of `avgzsl serve`, read from the environment; a blank value means the default."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one."
    )
    data_dir: Path = Field(
        default=Path("data"), description="Folder of the library and of uploads."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="How log lines are written."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe log lines that are written."
    )

    model: str = Field(default="bundled", description="`bundled`, or the folder of a checkpoint.")
    device: str = Field(
        default="auto", description="Where the model runs: `auto`, `cpu`, `cuda`, `mps`."
    )
    head: Literal["avgzslnet", "frozen"] = Field(
        default="avgzslnet",
        description="`avgzslnet`, a trained checkpoint; or `frozen`, the backbones as they are.",
    )
    audio_backbone: str | None = Field(
        default=None,
        description="What the checkpoint must have been trained on, else no start; "
        "`clap:SOURCE` says where CLAP lies, a folder or a repository of the hub.",
    )
    video_backbone: str | None = Field(
        default=None, description="The same; `clip:SOURCE` says where CLIP lies."
    )
    text_encoder: str | None = Field(
        default=None, description="What the checkpoint must have been trained on; else no start."
    )

    vector_store: str = Field(
        default="faiss",
        description=f"Where vectors are searched: {', '.join(STORES)}; `milvus:SOURCE` says "
        "where Milvus lies, a server's URL or a file that ends in `.db`.",
    )
    catalogue_url: str | None = Field(
        default=None,
        description="SQLAlchemy URL of the catalogue, `postgresql://USER:PASSWORD@HOST/DATABASE`; "
        "a SQLite file in `data_dir` by default. Several replicas, each with a `data_dir` of its "
        "own, may share one.",
    )
    media_url: str | None = Field(
        default=None,
        description="Where clips' files lie, for replicas that share them: `s3://BUCKET/PREFIX`, "
        "`file:///FOLDER` or another URL of fsspec; a folder in `data_dir` by default.",
    )

    require_api_keys: bool = Field(
        default=False,
        description="Whether requests need a key, as `avgzsl keys create` makes them.",
    )
    rate_limit: str | None = Field(
        default=None,
        description="Requests of one key, or of one address where no keys are required: "
        "`COUNT/SPAN` such as `600/minute`; a key's own comes first. None by default.",
    )
    concurrency_limit: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Requests of one key or address that are under way at once; a key's own "
        "comes first. None by default.",
    )
    allowed_hosts: Names = Field(
        default=(),
        description="Names that requests may call this service by (`Host`), with commas between; "
        "`*` for any. By default those of this machine alone where `host` is one of them, else "
        "any.",
    )
    cors_origins: Names = Field(
        default=(),
        description="Origins whose pages may use this service, such as `https://example.org`, "
        "with commas between; `*` for all. None by default.",
    )

    max_upload_bytes: int = Field(
        default=512 * MIB, ge=1, le=2**40, description="Size of an uploaded file, in bytes."
    )
    max_json_bytes: int = Field(
        default=8 * MIB, ge=1024, le=2**30, description="Size of a JSON body, in bytes."
    )
    max_duration_seconds: float = Field(
        default=600.0, gt=0, le=86_400, description="How long a clip may play."
    )
    max_frame_pixels: int = Field(
        default=8192 * 8192, ge=1, le=2**30, description="Width times height of a picture."
    )
    max_streams: int = Field(default=64, ge=1, le=1000, description="Streams in one container.")
    decode_timeout_seconds: float = Field(
        default=15.0, gt=0, le=3600, description="Wall-clock time that decoding one clip may take."
    )
    max_candidate_labels: int = Field(
        default=1000, ge=1, le=100_000, description="`candidate_labels` in one request."
    )
    decode_workers: int = Field(
        default=2, ge=1, le=256, description="Processes that decode clips, one at a time each."
    )
    decode_memory_bytes: int = Field(
        default=2 * GIB,
        ge=128 * MIB,
        le=2**40,
        description="Memory that each of them may allocate; a clip that needs more gets 422.",
    )
    decode_clips_per_worker: int = Field(
        default=500,
        ge=1,
        le=1_000_000,
        description="Clips after which one of them is replaced, as codecs may leak memory.",
    )
    queue_size: int = Field(
        default=16,
        ge=0,
        le=10_000,
        description="Clips that may wait for a decoding process; one more gets 429.",
    )
    batch_rows: int = Field(
        default=128,
        ge=1,
        le=65_536,
        description="Windows of sound and pictures that go through the model at once; a chunk of "
        "one clip that has more goes alone.",
    )
    batch_wait_milliseconds: float = Field(
        default=5.0,
        ge=0,
        le=1000,
        description="How long the first of a batch may wait for others while clips are decoded.",
    )
    max_model_failures: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Checks of the model that may fail in a row, each after a failed request or "
        "by the readiness check; then the service stops, for its supervisor to start it anew.",
    )
    model_timeout_seconds: float = Field(
        default=120.0,
        gt=0,
        le=86_400,
        description="How long one call of the model may take; then all that wait for it get 503, "
        "and the service stops, for its supervisor to start it anew.",
    )
    max_job_duration_seconds: float = Field(
        default=14_400.0, gt=0, le=604_800, description="How long a clip of a job may play."
    )
    job_decode_timeout_seconds: float = Field(
        default=3600.0,
        gt=0,
        le=86_400,
        description="Wall-clock time that decoding one clip of a job may take.",
    )
    job_workers: int = Field(
        default=1,
        ge=0,
        le=256,
        description="Clips of jobs that are worked on at the same time, beside those of requests; "
        "with 0 jobs are taken in, and left to other replicas.",
    )
    max_waiting_jobs: int = Field(
        default=1000, ge=1, le=1_000_000, description="Jobs that may wait; one more gets 429."
    )
    job_lease_seconds: float = Field(
        default=30.0,
        ge=1,
        le=3600,
        description="After how long without a sign of life a replica's item of a job is taken "
        "over; their clocks should not differ by so much.",
    )
    job_attempts: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="How often an item of a job is begun at most where the fault was not its own.",
    )
    job_retry_seconds: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        description="Wait before the second attempt; it doubles with each, up to a minute.",
    )
    keep_jobs_days: float = Field(
        default=30.0, gt=0, le=36_500, description="How long a finished job is remembered."
    )
    import_roots: Folders = Field(
        default=(),
        description="Folders of this machine that `POST /jobs/import` may read, and what is below "
        f"them, with {os.pathsep!r} between. None by default.",
    )
    model_roots: Folders = Field(
        default=(),
        description="Folders of this machine that `POST /model` may load checkpoints from, and "
        f"what is below them, with {os.pathsep!r} between. None by default.",
    )
    ray_ingress_replicas: int = Field(
        default=1,
        ge=1,
        le=100,
        description="On Ray: processes that answer HTTP. More than one need a shared catalogue "
        "and shared media.",
    )
    ray_ingress_cpus: float = Field(
        default=1.0, ge=0, le=256, description="On Ray: CPUs that each of them reserves."
    )
    ray_min_models: int = Field(
        default=1, ge=1, le=10_000, description="On Ray: copies of the model that always run."
    )
    ray_max_models: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="On Ray: copies of the model that may run under load; as many as the least "
        "by default.",
    )
    ray_model_cpus: float = Field(
        default=1.0, ge=0, le=256, description="On Ray: CPUs that each copy reserves."
    )
    ray_model_gpus: float = Field(
        default=0.0,
        ge=0,
        le=64,
        description="On Ray: GPUs that each copy reserves; 0.25 puts four on one.",
    )
    ray_model_requests: float = Field(
        default=4.0,
        gt=0,
        le=10_000,
        description="On Ray: chunks of clips and texts under way in one copy, above which another "
        "is started.",
    )
    ray_call_seconds: float = Field(
        default=30.0,
        ge=1,
        le=3600,
        description="On Ray: how long one chunk may wait for a copy of the model and its answer; "
        "then the request gets 503.",
    )
    readiness_cache_seconds: float = Field(
        default=5.0,
        ge=0,
        le=3600,
        description="How long one answer of the readiness check is reused.",
    )
    shutdown_timeout_seconds: int = Field(
        default=30, ge=0, le=3600, description="How long requests may go on when the service stops."
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_blank_values(cls, values: Any) -> Any:
        return {k: v for k, v in values.items() if not (isinstance(v, str) and not v.strip())}

    @field_validator("head", "log_format", "log_level", mode="before")
    @classmethod
    def _ignore_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("import_roots", "model_roots", mode="before")
    @classmethod
    def _split_folders(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(Path(word).expanduser() for word in value.split(os.pathsep) if word.strip())

    @field_validator("import_roots", "model_roots")
    @classmethod
    def _are_absolute(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        for folder in value:
            if not folder.is_absolute():
                raise ValueError(f"{str(folder)!r} is not absolute; write the whole path")
        return value

    @field_validator("data_dir")
    @classmethod
    def _expand_home(cls, value: Path) -> Path:
        return value.expanduser()

    @field_validator("vector_store")
    @classmethod
    def _is_registered(cls, value: str) -> str:
        check_store(value)
        return value

    @field_validator("allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(word.strip() for word in value.split(",") if word.strip())

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(host.strip("[]").lower() for host in value)

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and not re.fullmatch(r"https?://[^/]+", origin):
                raise ValueError(f"{origin!r} is no origin; write it as https://example.org")
        return value

    @field_validator("rate_limit")
    @classmethod
    def _is_a_rate(cls, value: str | None) -> str | None:
        if value is not None:
            check_rate(value)
        return value

    @field_validator("ray_max_models")
    @classmethod
    def _is_not_below_the_least(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("ray_min_models", 1)
        if value is not None and value < least:
            raise ValueError(f"it must not be below AVGZSL_RAY_MIN_MODELS, {least}")
        return value

    @property
    def most_models(self) -> int:
        """Copies of the model that may run on Ray."""
        return self.ray_max_models or self.ray_min_models

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        return self.host in LOOPBACK_HOSTS

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names that requests may call the service by; empty for any."""
        if "*" in self.allowed_hosts:
            return ()
        return self.allowed_hosts or (LOOPBACK_HOSTS if self.is_local else ())

    @property
    def library_dir(self) -> Path:
        """Folder that the library owns."""
        return self.data_dir / "library"

    @property
    def uploads_dir(self) -> Path:
        """Folder of files that are being received."""
        return self.data_dir / "uploads"


class ClientSettings(BaseSettings):
    """Settings of the Python client and of the commands that use it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    url: str = Field(
        default="",
        description="Where the service is. Blank: the Python client takes "
        f"{DEFAULT_URL}, and commands open the library of `data_dir` themselves.",
    )
    api_key: SecretStr = Field(
        default=SecretStr(""), description="Sent with every request, if it is not blank."
    )


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the environment; `overrides` (names as in `Settings`) come first.

    Raises:
        SettingsError: a value is of the wrong kind or out of range.
    """
    try:
        return Settings(**(overrides or {}))
    except ValidationError as error:
        raise SettingsError("; ".join(_explained(e) for e in error.errors())) from error


def check_rate(rate: str) -> None:
    """Raise ValueError where a rate cannot be read."""
    # The client reads its settings here, and has no use for the storages that this brings.
    from limits import parse as parse_rate  # noqa: PLC0415

    try:
        parsed = parse_rate(rate)
    except ValueError:
        parsed = None
    if parsed is None or parsed.amount < 1:
        raise ValueError(
            f"{rate!r} is no rate; write COUNT/SPAN, for example 600/minute or 10/second"
        )


def _explained(error: Any) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    value = redacted(str(error["input"]))[:80]
    return f"{PREFIX}{name.upper()} is {value!r}: {message}"
