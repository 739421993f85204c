"""What a model does with probes, for code that waits."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from onnxscope import catalog
from onnxscope.caller import Caller
from onnxscope.described import DescribedModel
from onnxscope.probes import importing
from onnxscope.probes.described import DescribedProbe
from onnxscope.probes.fitting import FIT, SWEEP, Fitting
from onnxscope.probes.listing import Probes
from onnxscope.probes.probe import Probe
from onnxscope.probes.result import ProbeResult
from onnxscope.probes.spec import Options
from onnxscope.probes.sweep import Sweep
from onnxscope.results import Activations, HookPoint
from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope.v1.codec import Array


class ProbedModel(DescribedModel):
    """A model of a scope's catalog, and the probes that read it."""

    _caller: Caller

    def stream(self, *_args: Any, **_kwargs: Any) -> Generator[Activations, None, None]:
        """Runs the model on batch after batch."""
        raise NotImplementedError

    def fit_probe(
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
    ) -> Probe:
        """Fits a small model on the activations of a hook point, evaluates it, and keeps it beside the model.

        Args:
            name: to keep it under.
            X: an array or a dict of arrays, rows first; or an iterable of such batches, or with `y=None` of
                `(batch, labels)`.
            y: labels `[row]`: whole numbers, bools or text for classes, floats for regression; `[row, position]` with
                `reduce="positions"`, -100 for positions to leave out; `[row, label]` of bools or zeros and ones for
                several labels a row. None for pca and kmeans.
            at: the hook point.
            kind: logistic, svm, ridge, mean_difference, lda, nearest_centroid, knn, mlp, pca or kmeans.
            reduce: as of `capture`; None flattens what is behind the rows.
            params: of the estimator, by scikit-learn's names; `standardize=False` leaves the activations as they are.
            test_size: share of the rows to hold out.
            test: rows to hold out: bools `[row]`, numbers of rows, or `(X_test, y_test)`, which are added.
            cv: number of folds, for a cross-validated score.
            groups: `[row]`; rows of one group never stand on both sides.
            metric: the report's first; None for accuracy, or r2.
            sample_weight: `[row]`.
            class_weight: "balanced", or a dict from class to weight.
            controls: measure control task, code length, learning curve and the raw input's score too; "shuffled" also
                the same architecture with shuffled weights.
            overwrite: replaces a probe of the same name.
            batch_size: rows at once.
            progress: True for a bar on a terminal, or a function of rows done and rows in all.
            timeout: seconds for all of it; None for the scope's.
            seed: of everything random.
            preprocess: called with every batch; returns an array or a dict.

        Returns:
            The probe. Printed, it is its report.

        Raises:
            DataInvalidError: rows and labels are not as many, or nothing can be learned from them.
            ProbeExistsError: there is a probe of this name.
            HookPointNotFoundError: `at` matches nothing.
            ValueInvalidError: an argument has no meaning.
            ProbeUnfaithfulError: what was exported predicts otherwise than what was fitted.
        """
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
        self._fit(fitting, timeout)
        return Probe(fitting.probe, self._reader())

    def sweep(
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
    ) -> Sweep[Probe]:
        """Fits one probe of the same kind at each of many hook points, with one pass of the model over the rows.

        A probe is kept as soon as it is finished. A sweep that was interrupted goes on where it was when it is asked
        for again with the same name and the same data.

        Args:
            X: as of `fit_probe`, like all that is not named here.
            y: as of `fit_probe`.
            at: selectors of hook points.
            kind: as of `fit_probe`.
            name: the probes are kept under NAME/ADDRESS; None lets the server choose, and then it cannot go on.
            reduce: a reduction or its name, or `{selector: reduction}`.
            params: as of `fit_probe`.
            test_size: as of `fit_probe`.
            test: as of `fit_probe`.
            cv: as of `fit_probe`.
            groups: as of `fit_probe`.
            metric: as of `fit_probe`.
            sample_weight: as of `fit_probe`.
            class_weight: as of `fit_probe`.
            controls: as of `fit_probe`.
            overwrite: as of `fit_probe`.
            batch_size: as of `fit_probe`.
            progress: as of `fit_probe`.
            timeout: as of `fit_probe`.
            seed: as of `fit_probe`.
            preprocess: as of `fit_probe`.

        Returns:
            The probes by address. Printed, it is a table.
        """
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
        self._fit(fitting, timeout)
        reader = self._reader()
        probes = {address: Probe(message, reader) for address, message in fitting.probes.items()}
        return fitting.sweep(probes, self._computed(list(probes), timeout))

    def probes(self, *, timeout: float | None = None) -> Probes[Probe]:
        """Returns the probes of this model in the catalog, by name; a table when printed."""
        pages = self._caller.pages("ProbeService/ListProbes", pb.ListProbesRequest(model=self.digest), timeout)
        reader = self._reader()
        return Probes(Probe(message, reader) for page in pages for message in page.probes)

    def probe(self, name: str, *, timeout: float | None = None) -> Probe:
        """Returns a probe of this model in the catalog.

        Raises:
            ProbeNotFoundError: there is none of this name.
        """
        request = pb.GetProbeRequest(model=self.digest, name=name)
        return Probe(self._caller.call("ProbeService/GetProbe", request, timeout).probe, self._reader())

    def delete_probe(self, name: str | DescribedProbe, *, timeout: float | None = None) -> None:
        """Takes a probe out of the catalog.

        Raises:
            ProbeNotFoundError: there is none of this name.
            ModelReadOnlyError: it lies in the server's models folder.
        """
        chosen = name.name if isinstance(name, DescribedProbe) else name
        self._caller.call("ProbeService/DeleteProbe", pb.DeleteProbeRequest(model=self.digest, name=chosen), timeout)

    def _reader(self) -> CatalogReader:
        return CatalogReader(self._caller, self.digest, self.stream)

    def _import_probe(self, requests: Sequence[pb.ImportProbeRequest], timeout: float | None) -> Probe:
        seconds = self._caller.seconds(timeout)
        with closing(self._caller.link.exchange("ProbeService/ImportProbe", requests, timeout=seconds)) as responses:
            return Probe(importing.imported(list(responses)), self._reader())

    def _fit(self, fitting: Fitting, timeout: float | None) -> None:
        link, seconds = self._caller.link, self._caller.seconds(timeout)
        try:
            with closing(link.fit(fitting.method, fitting.spec, fitting.batches(), timeout=seconds)) as responses:
                for response in responses:
                    fitting.take(response)
        finally:
            fitting.over()
        fitting.end()

    def _computed(self, addresses: list[str], timeout: float | None) -> list[HookPoint]:
        """Returns hook points, those that are computed first first."""
        if not addresses:
            return []
        request = catalog.hook_points_request(self._message, addresses, expand=False, batch_axes=False)
        pages = self._caller.pages("ModelService/ListHookPoints", request, timeout)
        points = [point for page in pages for point in catalog.hook_points(page)]
        return sorted(points, key=lambda point: point.depth)


@dataclass(frozen=True, slots=True)
class CatalogReader:
    """Runs probes of a model's catalog, and reads their files; see `Reader`.

    Attributes:
        caller: reaches the server that has them.
        digest: of the model.
        stream: the model's.
    """

    caller: Caller
    digest: str
    stream: Callable[..., Generator[Activations, None, None]]

    def probe_results(self, name: str, X: Any, **options: Any) -> Iterator[ProbeResult]:  # noqa: N803
        """As `Reader.probe_results`."""
        with closing(self.stream(X, probes=[name], outputs=False, **options)) as batches:
            for acts in batches:
                yield acts.probes[name]

    def probe_file(self, name: str, timeout: float | None) -> bytes:
        """As `Reader.probe_file`."""
        request = pb.ExportProbeRequest(model=self.digest, name=name)
        seconds = self.caller.seconds(timeout)
        with closing(self.caller.link.exchange("ProbeService/ExportProbe", [request], timeout=seconds)) as responses:
            return b"".join(response.data for response in responses)

    def probe_arrays(self, name: str) -> dict[str, Array]:
        """As `Reader.probe_arrays`."""
        request = pb.GetProbeRequest(model=self.digest, name=name)
        return DescribedProbe(self.caller.call("ProbeService/GetProbe", request, None).probe).arrays
