"""What to fit: a caller's arguments as a message."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxscope.ask import reduction_rules
from onnxscope.errors import ValueInvalidError
from onnxscope.reduce import Reduction
from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope.v1.codec import Array

UNSUPERVISED = ("pca", "kmeans")
SHUFFLED = "shuffled"
# as far as NumPy and scikit-learn go, and as far as the message does
_MOST_SEED = (1 << 32) - 1
_MOST_FOLDS = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Options:
    """How to fit and evaluate: the arguments of `fit_probe` that say nothing of rows.

    Attributes:
        kind: the estimator.
        params: of the estimator.
        test_size: share of rows to hold out.
        cv: number of folds; None for a held-out part.
        metric: the report's first; None for the task's own.
        class_weight: "balanced", or weights by class; None for 1.
        controls: True, False or "shuffled".
        overwrite: replaces a probe of the same name.
        seed: of everything random.
    """

    kind: str = "logistic"
    params: Mapping[str, Any] | None = None
    test_size: float = 0.3
    cv: int | None = None
    metric: str | None = None
    class_weight: Any = None
    controls: bool | str = True
    overwrite: bool = False
    seed: int = 0

    def message(self, name: str) -> pb.ProbeSpec:
        """Returns the message, without a model and hook points.

        Raises:
            ValueInvalidError: an argument has no meaning.
        """
        if not isinstance(name, str):
            raise ValueInvalidError(f"a probe's name is a string, not {name!r}")
        if not isinstance(self.kind, str) or not self.kind:
            raise ValueInvalidError(f"kind is the name of an estimator such as 'logistic', not {self.kind!r}")
        if self.controls is not True and self.controls is not False and self.controls != SHUFFLED:
            raise ValueInvalidError(f"controls is True, False or 'shuffled', not {self.controls!r}")
        if not isinstance(self.metric, str | None):
            raise ValueInvalidError(f"metric is the name of a score such as 'accuracy', not {self.metric!r}")
        if not isinstance(self.params, Mapping | None):
            raise ValueInvalidError(f"params is a dict of the estimator's parameters, not {self.params!r}")
        return pb.ProbeSpec(
            name=name,
            kind=self.kind,
            test_share=self._test_share(),
            seed=_integer(self.seed, "seed", "a whole number", 0, _MOST_SEED),
            overwrite=self.overwrite,
            params_json=_json(dict(self.params), "params") if self.params else "",
            fold_count=self._folds(),
            metric=self.metric or "",
            class_weight_json=self._class_weight(),
            without_controls=self.controls is False,
            shuffled_control=self.controls == SHUFFLED,
        )

    def _test_share(self) -> float:
        share = self.test_size
        if isinstance(share, bool) or not isinstance(share, float | np.floating) or not 0 < share < 1:
            raise ValueInvalidError(f"test_size is the share of rows to hold out, between 0 and 1, not {share!r}")
        return float(share)

    def _folds(self) -> int:
        if self.cv is None:
            return 0
        return _integer(self.cv, "cv", "the number of folds", 2, _MOST_FOLDS)

    def _class_weight(self) -> str:
        weight = self.class_weight
        if weight is None:
            return ""
        if weight == "balanced":
            return json.dumps(weight)
        if not isinstance(weight, Mapping):
            raise ValueInvalidError(f"class_weight is 'balanced' or a dict from class to weight, not {weight!r}")
        named = {str(int(label) if isinstance(label, bool | np.bool_) else label): w for label, w in weight.items()}
        return _json(named, "class_weight")


def add_reductions(spec: pb.ProbeSpec, rules: Sequence[tuple[str, Reduction]]) -> Mapping[str, Array]:
    """Adds reductions to a spec.

    Args:
        spec: that is changed.
        rules: selector and reduction.

    Returns:
        Masks that travel with the rows, by their name in the spec.
    """
    messages, masks = reduction_rules(rules)
    spec.reductions.extend(messages)
    return masks


def _integer(value: Any, name: str, meaning: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
        raise ValueInvalidError(f"{name} is {meaning} from {least} to {most}, not {value!r}")
    return int(value)


def _json(value: Mapping[Any, Any], name: str) -> str:
    try:
        return json.dumps(value, default=_plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueInvalidError(f"{name} must be plain numbers, strings, lists and None: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} is none of them")
