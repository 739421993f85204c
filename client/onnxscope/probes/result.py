"""What probes gave in one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxscope.names import closest
from onnxscope.show import tables
from onnxscope.v1.codec import Array, Value

# what a probe fitted here has, and what converters of scikit-learn's estimators call theirs
_LABELS = ("labels", "label", "output_label")
_SCORES = ("scores", "probabilities", "output_probability")


@dataclass(frozen=True, slots=True, eq=False)
class ProbeResult:
    """What one probe gave for the rows of one run.

    An example is a row, or where the probe's reduction is `positions` each position that counts, row after row.

    Attributes:
        labels: int64 or text `[example]`, bool `[example, label]`; None where the probe gives none.
        scores: float32 `[example, class]`, `[example, target]`, `[example, component]`; None where it gives none.
        classes: in the order of the scores; empty where there are none.
        outputs: all that the probe's graph gives, by name: of a sparse autoencoder its features, say.
        address: the hook point that it reads.
        kind: of the probe.
    """

    labels: Array | None
    scores: Array | None
    classes: tuple[int | str, ...] = ()
    outputs: Mapping[str, Value] = field(default_factory=dict)
    address: str = ""
    kind: str = ""

    @classmethod
    def of(cls, outputs: Mapping[str, Value], classes: Sequence[int | str], address: str, kind: str) -> ProbeResult:
        """Returns the result that a probe's outputs are.

        Args:
            outputs: by name.
            classes: in the order of the scores.
            address: the hook point that the probe reads.
            kind: of the probe.
        """
        return cls(_first(outputs, _LABELS), _first(outputs, _SCORES), tuple(classes), dict(outputs), address, kind)

    @classmethod
    def joined(cls, parts: Sequence[ProbeResult]) -> ProbeResult:
        """Returns the result over the rows of all parts, in order."""
        first = parts[0]
        outputs = {name: _joined([part.outputs[name] for part in parts]) for name in first.outputs}
        return cls.of(outputs, first.classes, first.address, first.kind)

    def __repr__(self) -> str:
        shapes = [f"{name} {_look(value)}" for name, value in self.outputs.items()]
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return f"{self.kind} probe of {self.address!r}{classes}: " + ", ".join(shapes)


class ProbeResults(Mapping[str, ProbeResult]):
    """Results of probes by name."""

    def __init__(self, results: Mapping[str, ProbeResult] | None = None) -> None:
        self._results = dict(results or {})

    def __getitem__(self, name: str) -> ProbeResult:
        try:
            return self._results[name]
        except KeyError:
            raise KeyError(closest(name, self._results, "probe")) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def __repr__(self) -> str:
        if not self._results:
            return "no probes"
        rows = [
            (name, result.kind, result.address, ", ".join(f"{key} {_look(v)}" for key, v in result.outputs.items()))
            for name, result in self._results.items()
        ]
        return tables.text(("probe", "kind", "hook point", "gives"), rows, max_rows=tables.MAX_ROWS)


def _first(outputs: Mapping[str, Value], names: Sequence[str]) -> Array | None:
    found: list[Any] = [outputs[name] for name in names if isinstance(outputs.get(name), np.ndarray)]
    return found[0] if found else None


def _joined(values: Sequence[Value]) -> Value:
    if isinstance(values[0], np.ndarray):
        return np.concatenate([np.asarray(value) for value in values])
    if isinstance(values[0], list):
        return [item for value in values if isinstance(value, list) for item in value]
    return values[0]


def _look(value: Any) -> str:
    return tables.shape_text(value.shape) if isinstance(value, np.ndarray) else type(value).__name__
