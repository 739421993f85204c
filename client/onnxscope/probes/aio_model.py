"""What a model does with probes, for coroutines."""
# ruff: noqa: ASYNC109  # `timeout` is the call's deadline, which gRPC keeps

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from onnxscope import catalog
from onnxscope.caller import AsyncCaller
from onnxscope.described import DescribedModel
from onnxscope.probes import importing
from onnxscope.probes.aio_probe import AsyncProbe
from onnxscope.probes.described import DescribedProbe
from onnxscope.probes.fitting import FIT, SWEEP, Fitting
from onnxscope.probes.listing import Probes
from onnxscope.probes.result import ProbeResult
from onnxscope.probes.spec import Options
from onnxscope.probes.sweep import Sweep
from onnxscope.results import Activations, HookPoint
from onnxscope.v1 import probe_service_pb2 as pb


class AsyncProbedModel(DescribedModel):
    """A model of a scope's catalog, and the probes that read it."""

    _caller: AsyncCaller

    def stream(self, *_args: Any, **_kwargs: Any) -> AsyncGenerator[Activations, None]:
        """Runs the model on batch after batch."""
        raise NotImplementedError

    async def fit_probe(
        self,
        name: str,
        X: Any,  # noqa: N803  # the contract's name, as scikit-learn's
        y: Any,
        *,
        at: Any,
        kind: str = "logistic",
        reduce: Any = None,
        params: Any = None,
        test_size: float = 0.3,
        test: Any = None,
        cv: Any = None,
        groups: Any = None,
        metric: str | None = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        controls: bool | str = True,
        overwrite: bool = False,
        batch_size: int = 32,
        progress: Any = None,
        timeout: float | None = None,
        seed: int = 0,
        preprocess: Callable[[Any], Any] | None = None,
    ) -> AsyncProbe:
        """Fits a small model on the activations of a hook point; all is as of `Model.fit_probe`."""
        options = Options(kind, params, test_size, cv, metric, class_weight, controls, overwrite, seed)
        fitting = Fitting(
            FIT,
            name,
            self._message,
            X,
            y,
            options=options,
            at=at,
            reduce=reduce,
            groups=groups,
            sample_weight=sample_weight,
            test=test,
            batch_size=batch_size,
            preprocess=preprocess,
            progress=progress,
        )
        await self._fit(fitting, timeout)
        return AsyncProbe(fitting.probe, self._reader())

    async def sweep(
        self,
        X: Any,  # noqa: N803
        y: Any,
        at: Any = "op:Relu",
        kind: str = "logistic",
        name: str | None = None,
        *,
        reduce: Any = None,
        params: Any = None,
        test_size: float = 0.3,
        test: Any = None,
        cv: Any = None,
        groups: Any = None,
        metric: str | None = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        controls: bool | str = True,
        overwrite: bool = False,
        batch_size: int = 32,
        progress: Any = None,
        timeout: float | None = None,
        seed: int = 0,
        preprocess: Callable[[Any], Any] | None = None,
    ) -> Sweep[AsyncProbe]:
        """Fits one probe of the same kind at each of many hook points; all is as of `Model.sweep`."""
        options = Options(kind, params, test_size, cv, metric, class_weight, controls, overwrite, seed)
        fitting = Fitting(
            SWEEP,
            name,
            self._message,
            X,
            y,
            options=options,
            at=at,
            reduce=reduce,
            groups=groups,
            sample_weight=sample_weight,
            test=test,
            batch_size=batch_size,
            preprocess=preprocess,
            progress=progress,
        )
        await self._fit(fitting, timeout)
        reader = self._reader()
        probes = {address: AsyncProbe(message, reader) for address, message in fitting.probes.items()}
        return fitting.sweep(probes, await self._computed(list(probes), timeout))

    async def probes(self, *, timeout: float | None = None) -> Probes[AsyncProbe]:
        """Returns the probes of this model in the catalog, by name; a table when printed."""
        pages = self._caller.pages("ProbeService/ListProbes", pb.ListProbesRequest(model=self.digest), timeout)
        reader = self._reader()
        return Probes([AsyncProbe(message, reader) async for page in pages for message in page.probes])

    async def probe(self, name: str, *, timeout: float | None = None) -> AsyncProbe:
        """Returns a probe of this model in the catalog.

        Raises:
            ProbeNotFoundError: there is none of this name.
        """
        request = pb.GetProbeRequest(model=self.digest, name=name)
        return AsyncProbe((await self._caller.call("ProbeService/GetProbe", request, timeout)).probe, self._reader())

    async def delete_probe(self, name: str | DescribedProbe, *, timeout: float | None = None) -> None:
        """Takes a probe out of the catalog.

        Raises:
            ProbeNotFoundError: there is none of this name.
            ModelReadOnlyError: it lies in the server's models folder.
        """
        chosen = name.name if isinstance(name, DescribedProbe) else name
        await self._caller.call(
            "ProbeService/DeleteProbe", pb.DeleteProbeRequest(model=self.digest, name=chosen), timeout
        )

    def _reader(self) -> AsyncCatalogReader:
        return AsyncCatalogReader(self._caller, self.digest, self.stream)

    async def _import_probe(self, requests: Sequence[pb.ImportProbeRequest], timeout: float | None) -> AsyncProbe:
        seconds = self._caller.seconds(timeout)
        answer = self._caller.link.exchange("ProbeService/ImportProbe", requests, timeout=seconds)
        async with aclosing(answer) as responses:
            return AsyncProbe(importing.imported([response async for response in responses]), self._reader())

    async def _fit(self, fitting: Fitting, timeout: float | None) -> None:
        link, seconds = self._caller.link, self._caller.seconds(timeout)
        answer = link.fit(fitting.method, fitting.spec, fitting.batches_async(), timeout=seconds)
        try:
            async with aclosing(answer) as responses:
                async for response in responses:
                    fitting.take(response)
        finally:
            fitting.over()
        fitting.end()

    async def _computed(self, addresses: list[str], timeout: float | None) -> list[HookPoint]:
        """Returns hook points, those that are computed first first."""
        if not addresses:
            return []
        request = catalog.hook_points_request(self._message, addresses, expand=False, batch_axes=False)
        pages = self._caller.pages("ModelService/ListHookPoints", request, timeout)
        points = [point async for page in pages for point in catalog.hook_points(page)]
        return sorted(points, key=lambda point: point.depth)


@dataclass(frozen=True, slots=True)
class AsyncCatalogReader:
    """Runs probes of a model's catalog, and reads their files; see `AsyncReader`.

    Attributes:
        caller: reaches the server that has them.
        digest: of the model.
        stream: the model's.
    """

    caller: AsyncCaller
    digest: str
    stream: Callable[..., AsyncGenerator[Activations, None]]

    async def probe_results(self, name: str, X: Any, **options: Any) -> AsyncIterator[ProbeResult]:  # noqa: N803
        """As `Reader.probe_results`."""
        async with aclosing(self.stream(X, probes=[name], outputs=False, **options)) as batches:
            async for acts in batches:
                yield acts.probes[name]

    async def probe_file(self, name: str, timeout: float | None) -> bytes:
        """As `Reader.probe_file`."""
        request = pb.ExportProbeRequest(model=self.digest, name=name)
        seconds = self.caller.seconds(timeout)
        async with aclosing(
            self.caller.link.exchange("ProbeService/ExportProbe", [request], timeout=seconds)
        ) as responses:
            return b"".join([response.data async for response in responses])
