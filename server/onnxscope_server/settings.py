"""Settings: every limit of the server, each a flag of `onnxscope serve` and an environment variable.

The flag of `max_input_bytes` is `--max-input-bytes`, its variable `ONNXSCOPE_MAX_INPUT_BYTES`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

GIB = 1 << 30
MOST_BATCH_ROWS = 1 << 16
# beyond that, too many in all
_MOST_OWN_THREADS = 8
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CONTAINER_CORES = Path("/sys/fs/cgroup/cpu.max")


class Settings(BaseSettings):
    """Settings of the onnxscope server."""

    model_config = SettingsConfigDict(
        env_prefix="ONNXSCOPE_",
        extra="forbid",
        frozen=True,
        cli_prog_name="onnxscope serve",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all interfaces")
    port: int = Field(8001, ge=0, le=65535, description="gRPC port; 0 takes a free one")
    http_port: int = Field(
        8002,
        ge=0,
        le=65535,
        description="port of the metrics (HTTP, Prometheus format); 0 for none",
    )
    models: Path | None = Field(
        None,
        description="folder of models to serve: NAME.onnx or NAME/[VERSION/]model.onnx; read at start",
    )
    data: Path | None = Field(
        None,
        description="folder that keeps uploaded models across restarts; a temporary one if not given",
    )
    providers: Annotated[tuple[str, ...], NoDecode] = Field(
        ("CPUExecutionProvider",),
        min_length=1,
        description="onnxruntime execution providers, first choice first, separated by commas",
    )
    custom_ops: Annotated[tuple[Path, ...], NoDecode] = Field(
        (),
        description="libraries of custom operators that models may use, separated by commas: they are code, and run in "
        "the server",
    )
    run_threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="runs that go on at the same time; 0 for one for every 8 cores, but at least 2 and at most 8",
    )
    intra_op_threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="threads that one run computes with; 0 for one a core. Up to 8, each session has as many of its "
        "own, which sleep between its runs; above that all sessions share as many (never where embedded)",
    )
    max_waiting_runs: int = Field(
        256, ge=1, description="runs that may wait for a thread; beyond that calls are refused"
    )
    max_batch_rows: int = Field(
        0,
        ge=0,
        le=MOST_BATCH_ROWS,
        description="rows of a run that serves several small requests for one plan that come at the same time; 0 runs "
        "each alone",
    )
    batch_delay_seconds: float = Field(
        0.005, ge=0, description="seconds that a request may wait for others to be run together with"
    )
    max_sessions: int = Field(
        32, ge=2, description="plans whose onnxruntime sessions are kept ready; the least recently used goes first"
    )
    session_bytes: int | None = Field(
        None,
        ge=1,
        description="bytes of memory that sessions may take, by estimate and without what runs need, weights "
        "that several share counted once; half of the machine's or container's memory if not given",
    )
    shared_weights_bytes: int = Field(
        64 * GIB,
        ge=0,
        description="bytes of disk for the weights of models as all their sessions map them, up to three times their "
        "size; the least recently used model's go first, models above 1 GiB are left out; 0 for no sharing",
    )
    max_model_bytes: int = Field(
        64 * GIB, ge=1, description="largest model that may be uploaded, with its external data"
    )
    max_probe_bytes: int = Field(GIB, ge=1, description="largest file of a probe")
    probe_bytes: int = Field(16 * GIB, ge=1, description="bytes of disk for the probes of all models")
    max_probes: int = Field(100_000, ge=1, description="probes that are kept, of all models")
    max_input_bytes: int = Field(GIB, ge=1, description="largest inputs of one run, all together")
    memory_budget: int | None = Field(
        None,
        ge=1,
        description="bytes of activations that one run may bring; a capture of more runs in groups of hook points, and "
        "a larger single one is refused; half of the machine's or container's memory if not given",
    )
    shared_memory_bytes: int | None = Field(
        None,
        ge=0,
        description="bytes of memory that clients on this host share with the server, all together; 0 shares none; a "
        "quarter of the machine's or container's memory if not given",
    )
    probe_memory_bytes: int = Field(
        256 << 20,
        ge=1,
        description="bytes of activations that a fit or sweep keeps in memory, beyond which they go to disk, and bytes "
        "that the fit of one probe takes, which beyond that learns block by block",
    )
    probe_store_bytes: int = Field(
        64 * GIB, ge=1, description="bytes of disk that the activations of one fit or sweep may take"
    )
    unfinished_sweep_bytes: int = Field(
        64 * GIB,
        ge=0,
        description="bytes of disk that the activations of all sweeps that were not finished may take, to go on with "
        "them; beyond that the oldest are removed",
    )
    unfinished_sweep_hours: float = Field(
        168.0, ge=0, description="hours after which the activations of a sweep that was not finished are removed"
    )
    max_fits: int = Field(
        0,
        ge=0,
        le=1024,
        description="probes that are fitted at the same time; 0 for one for every 2 cores, at least 1 and at most 8",
    )
    max_fit_calls: int = Field(
        16, ge=1, description="fits and sweeps that may go on or wait at the same time; beyond that they are refused"
    )
    drain_seconds: float = Field(
        1.0,
        ge=0,
        description="on SIGTERM: seconds between saying NOT_SERVING and refusing new calls",
    )
    grace_seconds: float = Field(30.0, ge=0, description="on SIGTERM: seconds that calls under way may take to finish")
    token: SecretStr | None = Field(None, description="secret that callers must send as 'authorization: Bearer TOKEN'")
    tls_cert: Path | None = Field(None, description="PEM file of the server's certificate chain")
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of the authorities whose client certificates are required"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe level to log")

    @field_validator("providers", "custom_ops", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        items = [value] if isinstance(value, str | Path) else value
        if isinstance(items, list | tuple):
            return [name for item in items for name in _names(item)]
        return value

    @field_validator("models")
    @classmethod
    def _exists(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError(f"there is no folder {value}; make it, or name the folder that holds the models")
        return value

    @field_validator("custom_ops")
    @classmethod
    def _are_files(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        for library in value:
            if not library.is_file():
                raise ValueError(f"there is no file {library}; name the library that has the operators")
        return value

    @model_validator(mode="after")
    def _tls(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together; give both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key too")
        return self

    @property
    def memory_budget_bytes(self) -> int:
        """The memory budget; where none is given, half of what the machine or the container has."""
        return self.memory_budget or _memory() // 2

    @property
    def session_budget_bytes(self) -> int:
        """Bytes for sessions; where none are given, half of what the machine or the container has."""
        return self.session_bytes or _memory() // 2

    @property
    def run_threads_chosen(self) -> int:
        """Runs that go on at the same time: on many cores more of them keep all busy, for one run seldom does."""
        return self.run_threads or max(2, min(8, _cores() // 8))

    @property
    def max_fits_chosen(self) -> int:
        """Probes that are fitted at the same time: other cores are for runs."""
        return self.max_fits or max(1, min(8, _cores() // 2))

    @property
    def intra_op_threads_chosen(self) -> int:
        """Threads to compute with; 0 where onnxruntime's own count, one a core of the machine, is right."""
        cores = _cores()
        return self.intra_op_threads or (cores if cores < (os.cpu_count() or 1) else 0)

    @property
    def shares_threads(self) -> bool:
        """Whether all sessions compute with the same threads.

        Threads of a session's own sleep as soon as its run ends; shared ones can't be told to, and spin for a while on
        time that others need. But on many cores each session would have too many.
        """
        return (self.intra_op_threads_chosen or _cores()) > _MOST_OWN_THREADS

    @property
    def shared_memory_limit_bytes(self) -> int:
        """What may be shared; where nothing is said, a quarter of what the machine or the container has."""
        return _memory() // 4 if self.shared_memory_bytes is None else self.shared_memory_bytes

    @property
    def http_port_chosen(self) -> bool:
        """Whether somebody said which HTTP port to take: then a busy one is an error."""
        return "http_port" in self.model_fields_set


def _memory() -> int:
    """Returns the bytes of memory that this process may use, as far as the system tells."""
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        there = 8 * GIB
    try:
        return min(there, int(_CONTAINER_LIMIT.read_text()))
    except (OSError, ValueError):
        return there


def _cores() -> int:
    """Returns the cores that this process may use."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _core_quota()
    return there if quota is None else min(there, quota)


def _core_quota() -> int | None:
    """Returns the cores that the container may keep busy, rounded up; None where it has no limit."""
    try:
        quota, period = _CONTAINER_CORES.read_text().split()
        return None if quota == "max" else max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        return None


def _names(item: Any) -> list[Any]:
    if not isinstance(item, str):
        return [item]
    if item.lstrip().startswith("["):
        return list(json.loads(item))
    return [name.strip() for name in item.split(",") if name.strip()]


# what `onnxscope serve --help` shows beside each flag
for _name, _field in Settings.model_fields.items():
    _field.description = f"{_field.description} [ONNXSCOPE_{_name.upper()}]"


class EmbeddedSettings(Settings):
    """Settings of a server that lives in its only client's process: what the caller says, no environment."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leaves only what the caller says."""
        return (init_settings,)
