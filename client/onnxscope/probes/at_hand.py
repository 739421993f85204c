"""Probes on activations that the caller already has: fitted and run by a server in this process, which goes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxscope import embedding
from onnxscope.caller import Caller
from onnxscope.errors import DataInvalidError, ValueInvalidError
from onnxscope.model import Model
from onnxscope.probes import labels
from onnxscope.probes.fitting import FIT, Fitting
from onnxscope.probes.probe import Probe
from onnxscope.probes.result import ProbeResult
from onnxscope.probes.spec import SHUFFLED, Options
from onnxscope.results import Activations, TensorSpec
from onnxscope.upload import Source
from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope.v1.codec import Array

BATCH_SIZE = 1024
_IGNORED = -100
_POSITION_RANK = 3
# of the largest number of a feature: what varies less does so by rounding of float64
_NOISE = 1e-13
# share of a feature's range by which float32 may round it
_LOST = 0.01


def fit_probe(
    H: Any,  # noqa: N803  # the contract's name
    y: Any,
    *,
    kind: str = "logistic",
    reduce: str | None = None,
    params: Any = None,
    test_size: float = 0.3,
    test: Any = None,
    cv: Any = None,
    groups: Any = None,
    metric: str | None = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    controls: bool = True,
    name: str = "probe",
    batch_size: int = BATCH_SIZE,
    progress: Any = None,
    timeout: float | None = None,
    seed: int = 0,
) -> Probe:
    """Fits a small model on activations already at hand, and evaluates it; no scope is needed.

    Args:
        H: activations `[row, feature]`, whatever is behind the rows flattened; or an iterable of such batches, or with
            `y=None` of `(batch, labels)`.
        y: labels, as of `Model.fit_probe`.
        kind: as of `Model.fit_probe`, like all that is not named here.
        reduce: "positions" where `H` is `[row, position, feature]` and `y` `[row, position]`; None else.
        params: as of `Model.fit_probe`.
        test_size: as of `Model.fit_probe`.
        test: as of `Model.fit_probe`.
        cv: as of `Model.fit_probe`.
        groups: as of `Model.fit_probe`.
        metric: as of `Model.fit_probe`.
        sample_weight: as of `Model.fit_probe`.
        class_weight: as of `Model.fit_probe`.
        controls: as of `Model.fit_probe`, but that there are no weights to shuffle.
        name: that the report has.
        batch_size: rows that are sent at once.
        progress: as of `Model.fit_probe`.
        timeout: seconds for all of it; None for ever.
        seed: as of `Model.fit_probe`.

    Returns:
        The probe. It predicts on activations, and is kept nowhere: `save` writes its ONNX file.

    Raises:
        ModuleNotFoundError: the server's part is not installed.
        DataInvalidError: rows and labels are not as many, or nothing can be learned from them.
    """
    fitting = fitting_at_hand(
        H,
        y,
        reduce,
        name=name,
        options=Options(kind, params, test_size, cv, metric, class_weight, controls, seed=seed),
        groups=groups,
        sample_weight=sample_weight,
        test=test,
        batch_size=batch_size,
        progress=progress,
    )
    link = embedding.open_link("fit_probe")
    try:
        with closing(link.fit(FIT, fitting.spec, fitting.batches(), timeout=timeout)) as responses:
            for response in responses:
                fitting.take(response)
    finally:
        fitting.over()
        link.close()
    fitting.end()
    return Probe(fitting.probe, FileReader(bytes(fitting.data), fitting.probe))


def fitting_at_hand(
    H: Any,  # noqa: N803
    y: Any,
    reduce: str | None,
    *,
    name: str,
    options: Options,
    groups: Any,
    sample_weight: Any,
    test: Any,
    batch_size: int,
    progress: Any,
) -> Fitting:
    """Returns a fit of activations; arguments and errors as of `fit_probe`."""
    if options.controls == SHUFFLED:
        raise ValueInvalidError("activations at hand have no model whose weights could be shuffled: controls=True")
    if reduce not in (None, "positions"):
        raise ValueInvalidError(
            f"activations at hand are reduced already: reduce is None or 'positions', not {reduce!r}"
        )
    more = {"groups": groups, "sample_weight": sample_weight, "test": test}
    if reduce is not None:
        H, y, more = _positions(H, y, more)  # noqa: N806
    return Fitting(
        FIT,
        name,
        None,
        H,
        y,
        options=options,
        batch_size=batch_size,
        preprocess=flat,
        progress=progress,
        **more,
    )


def flat(H: Any) -> Array:  # noqa: N803
    """Returns activations as a probe reads them: float32 `[row, feature]`, all behind the rows in one axis.

    Raises:
        ValueInvalidError: they are no numbers, have no rows, or float32 can't tell them apart.
    """
    array = np.asarray(H)
    if array.ndim == 0 or array.dtype.kind in "OUSTcmM":
        raise ValueInvalidError(
            f"activations are numbers [row, feature], not {array.dtype} of shape {list(array.shape)}"
        )
    if not array.size:
        return np.empty((0, 1), np.float32)
    given: Array = array.reshape(len(array), -1)
    with np.errstate(over="ignore"):
        rows: Array = given.astype(np.float32)
    if given.dtype.itemsize > rows.dtype.itemsize:
        _check_rounded(given, rows)
    return rows


def _check_rounded(given: Array, rows: Array) -> None:
    """Raises ValueInvalidError where `rows`, which are `given` as float32, have lost what was there."""
    finite = np.isfinite(given)
    if not np.isfinite(rows[finite]).all():
        raise ValueInvalidError(
            "activations are beyond 3.4e38, and a probe reads float32: divide them by a large number"
        )
    if not finite.all():
        return  # which the server says
    spread = np.ptp(given, axis=0)
    varies = spread > _NOISE * np.abs(given).max(axis=0)
    lost = np.abs(given - rows).max(axis=0) > _LOST * spread
    if varies.any() and lost[varies].all():
        raise ValueInvalidError(
            "activations differ from row to row by less than float32 can hold, which a probe reads: subtract their mean"
        )


@dataclass(frozen=True, slots=True)
class FileReader:
    """Runs a probe that no catalog has, and holds its file; see `Reader`.

    Attributes:
        onnx: its file.
        message: its description.
    """

    onnx: bytes
    message: pb.Probe

    def probe_results(
        self,
        name: str,  # noqa: ARG002  # there is one
        X: Any,  # noqa: N803
        *,
        batch_size: int,
        progress: Any,
        preprocess: Callable[[Any], Any] | None,
        timeout: float | None,
    ) -> Iterator[ProbeResult]:
        """As `Reader.probe_results`, on activations."""
        link = embedding.open_link("predict")
        try:
            model = Model(Caller(link), link.upload(Source(data=self.onnx), "", "", timeout=timeout))
            prepare = prepared(model.inputs, preprocess)
            stream = model.stream(
                X,
                batch_size=max(batch_size, BATCH_SIZE),
                progress=progress,
                preprocess=prepare,
                timeout=timeout,
            )
            with closing(stream) as batches:
                for acts in batches:
                    yield result_of(acts, self.message)
        finally:
            link.close()

    def probe_file(self, name: str, timeout: float | None) -> bytes:  # noqa: ARG002  # there is one, and it is here
        """As `Reader.probe_file`."""
        return self.onnx

    def probe_arrays(self, name: str) -> dict[str, Array]:  # noqa: ARG002
        """As `Reader.probe_arrays`: those that there are came with the description."""
        return {}


def prepared(inputs: tuple[TensorSpec, ...], preprocess: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Returns what makes a batch of activations the input of a probe's graph."""

    def prepare(batch: Any) -> Mapping[str, Array]:
        return {inputs[0].name: flat(preprocess(batch) if preprocess else batch)}

    return prepare


def result_of(acts: Activations, message: pb.Probe) -> ProbeResult:
    """Returns the outputs of a probe's graph as its result."""
    described = Probe(message, FileReader(b"", message))
    return ProbeResult.of(dict(acts.outputs), described.classes, "", described.kind)


def _positions(H: Any, y: Any, more: Mapping[str, Any]) -> tuple[Array, Array | None, dict[str, Any]]:  # noqa: N803
    """Makes each position a row; those of one row, or of one of the caller's groups, stay together."""
    rows = np.asarray(H)
    if rows.ndim != _POSITION_RANK:
        raise DataInvalidError(f"positions are of activations [row, position, feature], not {list(rows.shape)}")
    if isinstance(more["test"], tuple):
        raise ValueInvalidError("with reduce='positions' test is a mask or the numbers of rows")
    keep = np.ones(rows.shape[:2], np.bool_)
    kept = None
    if y is not None:
        named = labels.of(y, per_position=True)
        if named.shape != rows.shape[:2]:
            raise DataInvalidError(
                f"the labels have the shape {list(named.shape)}, and the positions {list(rows.shape[:2])}: give a "
                f"label for each, {_IGNORED} to leave one out"
            )
        keep = named != _IGNORED
        kept = named[keep]
    row = np.nonzero(keep)[0]
    found = dict(more)
    groups = np.arange(len(rows)) if more["groups"] is None else labels.groups_of(more["groups"])
    checks = {"groups": groups}
    if more["sample_weight"] is not None:
        checks["sample_weight"] = labels.weights_of(more["sample_weight"])
    if more["test"] is not None:
        checks["test"] = labels.test_of(more["test"], len(rows))
    for name, array in checks.items():
        if len(array) != len(rows):
            raise DataInvalidError(f"{name} has {len(array)} rows, and the data set {len(rows)}: give one for each row")
        found[name] = array[row]
    return rows[keep], kept, found
