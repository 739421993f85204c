"""Wiring: settings -> services, for a server and for a client that embeds them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from onnxscope.v1 import (
    capture_service_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    probe_service_pb2,
    probe_service_pb2_grpc,
)
from onnxscope_server.api import capture_servicer
from onnxscope_server.api.capture_servicer import CaptureServicer
from onnxscope_server.api.metrics import Endpoint, Metrics
from onnxscope_server.api.model_servicer import ModelServicer
from onnxscope_server.api.probe_servicer import ProbeServicer
from onnxscope_server.api.status import Gate
from onnxscope_server.catalog.catalog import Catalog
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.probes import ProbeLimits
from onnxscope_server.domain import Segment
from onnxscope_server.pipeline.batch_axes import BatchAxes
from onnxscope_server.pipeline.batching.batching import Batching
from onnxscope_server.pipeline.capture import Captures
from onnxscope_server.pipeline.keeping import Keeping
from onnxscope_server.pipeline.memory import Budget
from onnxscope_server.pipeline.probes import Probing
from onnxscope_server.pipeline.probing.sweep_folders import SweepFolders
from onnxscope_server.pipeline.probing.targets import Targets
from onnxscope_server.probes import metadata
from onnxscope_server.rewrite.build import unmodified
from onnxscope_server.rewrite.fingerprint import cones_of_file
from onnxscope_server.run.environment import check_providers
from onnxscope_server.run.home import Home, first_core
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.predictor import predictor
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.sessions import Sessions
from onnxscope_server.run.sharing import Sharing, can_share
from onnxscope_server.run.trial import Knowledge, check, providers_in_use
from onnxscope_server.settings import Settings
from onnxscope_server.wire.shared_memory import SharedMemory

_log = logging.getLogger(__name__)
_SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (model_service_pb2, "ModelService"),
        (capture_service_pb2, "CaptureService"),
        (probe_service_pb2, "ProbeService"),
    )
)
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share its calls
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that answers calls, with nothing of the network."""

    settings: Settings
    catalog: Catalog
    sessions: Sessions
    sharing: Sharing | None
    runner: Runner
    trial: Callable[[CatalogModel], None]
    models: ModelServicer
    captures: CaptureServicer
    probing: Probing
    probes: ProbeServicer
    shared_memory: SharedMemory
    folder: tempfile.TemporaryDirectory[str] | None

    @classmethod
    def make(cls, settings: Settings, session_options: Any = None) -> Services:
        """Wires the services; `session_options` are an embedding caller's own for onnxruntime."""
        check_providers(settings.providers)
        opening = Opening(settings.providers, settings.intra_op_threads_chosen, session_options, settings.custom_ops)
        folder = None if settings.data else tempfile.TemporaryDirectory(prefix="onnxscope-")
        data = settings.data or Path(folder.name if folder else "")
        catalog = Catalog(
            data,
            max_model_bytes=settings.max_model_bytes,
            durable=settings.data is not None,
            runtime=Knowledge(opening),
            read_probe=metadata.read,
            probe_limits=ProbeLimits(settings.max_probe_bytes, settings.probe_bytes, settings.max_probes),
        )
        home = Home(first_core()) if opening.threads_are_pinned else Home()
        runner = Runner(settings.run_threads_chosen, settings.max_waiting_runs, home)
        sharing = _sharing(settings, opening, data / "shared", catalog)
        sessions = Sessions(
            runner,
            opening,
            max_sessions=settings.max_sessions,
            max_bytes=settings.session_budget_bytes,
            fingerprint=cones_of_file,
            sharing=sharing,
        )
        trial = functools.partial(check, opening=opening)
        batch_axes = BatchAxes(sessions, runner)
        folders = SweepFolders(data / "sweeps", settings.unfinished_sweep_bytes, settings.unfinished_sweep_hours)
        models = ModelServicer(catalog, sessions, runner, batch_axes, trial, providers_in_use(opening), folders.forget)
        budget = Budget(settings.memory_budget_bytes, sessions, runner)
        memory = SharedMemory(settings.shared_memory_limit_bytes)
        verb = Captures(catalog, sessions, runner, budget)
        batching = Batching(verb, runner, settings)
        captures = CaptureServicer(verb, batching, settings.max_input_bytes, memory)
        targets = Targets(verb, batching, batch_axes, runner)
        probing = Probing(targets, catalog.probes, predictor(opening), runner, settings, folders)
        probes = ProbeServicer(probing, Keeping(catalog, runner, trial), settings.max_input_bytes)
        return cls(
            settings, catalog, sessions, sharing, runner, trial, models, captures, probing, probes, memory, folder
        )

    async def load_models_folder(self) -> None:
        """Takes the models of the settings' folder into the catalog; a broken one is logged."""
        if self.settings.models is not None:
            await self.runner.call(self.catalog.scan_models_folder, self.settings.models, self.trial)
            for digest in {entry.digest for entry in self.catalog.entries() if entry.read_only}:
                await self.sessions.prepare(digest)

    async def close(self) -> None:
        """Ends what runs and gives back files and threads."""
        self.runner.terminate()
        await self.probing.close()
        await self.runner.close()
        if self.sharing is not None:
            self.sharing.close()
        self.shared_memory.close()
        self.catalog.close()
        if self.folder is not None:
            self.folder.cleanup()


class Server:
    """The gRPC server: health, reflection, metrics, and an end that loses no call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._services = Services.make(settings)
        self._metrics = Metrics()
        self._metrics.gauge(
            "onnxscope_models",
            "Models in the catalog.",
            lambda: len(self._services.catalog.entries()),
        )
        _tell(self._metrics, self._services.sessions)
        self._metrics.gauge(
            "onnxscope_shared_memory_bytes",
            "Memory shared with clients on this host.",
            lambda: self._services.shared_memory.byte_count,
        )
        self._health = health_aio.HealthServicer()
        token = settings.token.get_secret_value() if settings.token else None
        self._grpc = grpc.aio.server(interceptors=[Gate(token, self._metrics.observe)], options=_OPTIONS)
        self._endpoint: Endpoint | None = None
        self.port = 0

    async def start(self) -> None:
        """Listens, loads the models folder, and only then says SERVING.

        Raises:
            OSError: the gRPC port, or an HTTP port that was asked for, is taken.
        """
        services, server = self._services, self._grpc
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(services.models, server)
        capture_servicer.add_to_server(services.captures, server)
        probe_service_pb2_grpc.add_ProbeServiceServicer_to_server(services.probes, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*_SERVICES, "grpc.health.v1.Health", reflection.SERVICE_NAME), server)
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)
        self.port = self._listen()
        await server.start()
        self._serve_metrics()
        await services.load_models_folder()
        await self._say(health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Says NOT_SERVING, waits for balancers to see it, then lets calls under way finish."""
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)
        await asyncio.sleep(self._settings.drain_seconds)
        await self._grpc.stop(self._settings.grace_seconds)
        if self._endpoint is not None:
            self._endpoint.close()
        await self._services.close()

    async def _say(self, status: Any) -> None:
        for name in ("", *_SERVICES):
            await self._health.set(name, status)

    def _listen(self) -> int:
        settings = self._settings
        address = f"{settings.host}:{settings.port}"
        try:
            if settings.tls_cert is None or settings.tls_key is None:
                return self._grpc.add_insecure_port(address)
            authorities = settings.tls_client_ca.read_bytes() if settings.tls_client_ca else None
            credentials = grpc.ssl_server_credentials(
                [(settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())],
                root_certificates=authorities,
                require_client_auth=authorities is not None,
            )
            return self._grpc.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(
                f"cannot listen on {address}: is another server running there? Choose another --port"
            ) from error

    def _serve_metrics(self) -> None:
        settings = self._settings
        if not settings.http_port:
            return
        try:
            self._endpoint = self._metrics.serve(settings.host, settings.http_port)
        except OSError as error:
            if settings.http_port_chosen:
                raise OSError(f"cannot serve metrics on port {settings.http_port}: {error}") from error
            _log.warning("port %d is taken; no metrics (choose one with --http-port)", settings.http_port)


def _sharing(settings: Settings, opening: Opening, folder: Path, catalog: Catalog) -> Sharing | None:
    if not settings.shared_weights_bytes or not can_share(opening):
        return None

    def plain(digest: str) -> Segment:
        return unmodified(catalog.resolve(digest)[1])

    return Sharing(opening, folder, plain, max_bytes=settings.shared_weights_bytes)


def _tell(metrics: Metrics, sessions: Sessions) -> None:
    """Adds what operators watch of sessions."""
    metrics.gauge("onnxscope_sessions", "Sessions kept ready.", lambda: sessions.session_count)
    metrics.gauge("onnxscope_session_bytes", "Estimate of their memory.", lambda: sessions.byte_count)
    metrics.gauge("onnxscope_plans", "Plans that have sessions ready.", lambda: len(sessions))
    counts = sessions.counts
    metrics.counter("onnxscope_plan_hits", "Plans asked for whose sessions were there.", lambda: counts.hits)
    metrics.counter("onnxscope_plan_misses", "Plans asked for whose sessions were not.", lambda: counts.misses)
    metrics.counter("onnxscope_plan_evictions", "Plans whose sessions made room.", lambda: counts.evictions)
    metrics.counter("onnxscope_sessions_made", "Sessions made.", lambda: counts.made)
    metrics.counter("onnxscope_session_making_seconds", "Seconds that took.", lambda: counts.making_seconds)


async def serve(
    settings: Settings,
    ready: Callable[[Server], None],
    until: Callable[[], Awaitable[None]],
) -> None:
    """Runs a server until `until` returns; `ready` is told when it says SERVING."""
    server = Server(settings)
    try:
        await server.start()
        ready(server)
        await until()
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await server.stop()
