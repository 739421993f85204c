"""A probe in the catalog, for code that waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from onnxscope.errors import DataInvalidError
from onnxscope.probes.described import DescribedProbe
from onnxscope.probes.result import ProbeResult
from onnxscope.show.atomic import replacing
from onnxscope.v1.codec import Array


class Reader(Protocol):
    """What runs a probe on rows and knows its file."""

    def probe_results(
        self,
        name: str,
        X: Any,  # noqa: N803  # the contract's name
        *,
        batch_size: int,
        progress: Any,
        preprocess: Callable[[Any], Any] | None,
        timeout: float | None,
    ) -> Iterator[ProbeResult]:
        """Yields what the probe gives for batch after batch."""

    def probe_file(self, name: str, timeout: float | None) -> bytes:
        """Returns the probe's ONNX file."""

    def probe_arrays(self, name: str) -> dict[str, Array]:
        """Returns the arrays of a linear probe."""


class Probe(DescribedProbe):
    """A small model trained on activations; printed, it is the report of its evaluation.

    Args:
        message: the server's description.
        reader: runs it.
    """

    def __init__(self, message: Any, reader: Reader) -> None:
        super().__init__(message)
        self._reader = reader

    def run(
        self,
        x: Any,
        *,
        batch_size: int = 32,
        progress: Any = None,
        preprocess: Callable[[Any], Any] | None = None,
        timeout: float | None = None,
    ) -> ProbeResult:
        """Returns all that the probe gives for a data set; nothing of the model runs behind its hook point.

        Args:
            x: inputs of the model: an array, a dict of arrays, or an iterable of such batches.
            batch_size: rows at once.
            progress: True for a bar on a terminal, or a function of rows done and rows in all.
            preprocess: called with every batch; returns an array or a dict.
            timeout: seconds; None for the scope's.

        Raises:
            DataInvalidError: there are no rows.
            InputMismatchError: `x` is not what the model declares.
            ProbeNotFoundError: it is not in the catalog any more.
        """
        self._check_mask()
        parts = self._reader.probe_results(
            self.name, x, batch_size=batch_size, progress=progress, preprocess=preprocess, timeout=timeout
        )
        return joined(list(parts))

    def predict(self, x: Any, **options: Any) -> Array:
        """Returns labels `[example]`, for several labels `[example, label]`, for regression the values.

        Arguments and errors are those of `run`.
        """
        return self._predicted(self.run(x, **options))

    def predict_proba(self, x: Any, **options: Any) -> Array:
        """Returns probabilities `[example, class]`, of kinds that have some; arguments as of `run`.

        Raises:
            ValueInvalidError: the kind has no probabilities.
        """
        return self._probabilities(self.run(x, **options))

    def decision_function(self, x: Any, **options: Any) -> Array:
        """Returns the scores as they are, `[example, class]`; arguments as of `run`."""
        return self._scores(self.run(x, **options))

    def transform(self, x: Any, **options: Any) -> Array:
        """Returns components `[example, component]` of PCA; arguments as of `run`."""
        return self._components(self.run(x, **options))

    def save(self, path: str | PathLike[str], *, timeout: float | None = None) -> Path:
        """Writes its ONNX file, whole or not at all, and returns the path.

        Its metadata has all that is known of it: `scope.load_probe` brings it back, and any runtime for ONNX runs it.
        """
        return write(path, self._reader.probe_file(self.name, timeout))

    def _array(self, name: str) -> Array:
        if self._arrays is None:
            self._arrays = self._reader.probe_arrays(self.name)
        return super()._array(name)


def joined(parts: list[ProbeResult]) -> ProbeResult:
    """Returns the results of all batches in one.

    Raises:
        DataInvalidError: there are none.
    """
    if not parts:
        raise DataInvalidError("there are no rows to read a probe on")
    return ProbeResult.joined(parts)


def write(path: str | PathLike[str], data: bytes) -> Path:
    """Writes a file, whole or not at all."""
    target = Path(path)
    with replacing(target) as part:
        part.write_bytes(data)
    return target
