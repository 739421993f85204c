"""What the reader of a report must know beside its figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxscope_server.probe_domain import Fitted, ProbeKind, Task
from onnxscope_server.probes.splits import Split
from onnxscope_server.probes.targets import Targets
from onnxscope_server.probes.trials import SILHOUETTE_EXAMPLES

NAMED = 5  # classes that a note names


def of(kept: Fitted, targets: Targets, parts: list[Split]) -> list[str]:
    """Returns notes on a fit and its splits."""
    texts = []
    if _unfinished(kept.estimator):
        texts.append("the fit ended before it converged: raise max_iter, or standardize")
    if targets.task in {Task.CLASSES, Task.MULTILABEL}:
        for name in ("train", "test"):
            missing = _missing(targets, np.concatenate([getattr(part, name) for part in parts]))
            if missing:
                where = "learn from" if name == "train" else "test on"
                what = "class" if targets.task == Task.CLASSES else "label"
                texts.append(f"there is no row to {where} of {what} {', '.join(missing)}")
    if kept.kind == ProbeKind.KMEANS and any(len(part.test) > SILHOUETTE_EXAMPLES for part in parts):
        texts.append(f"the silhouette is of {SILHOUETTE_EXAMPLES} held-out examples")
    return texts


def _missing(targets: Targets, examples: np.ndarray[Any, np.dtype[Any]]) -> list[str]:
    truth = targets.truth[examples]
    if targets.task == Task.CLASSES:
        there = np.bincount(truth, minlength=len(targets.classes)) > 0
    else:
        there = truth.any(axis=0)
    names = [str(targets.classes[number]) for number in np.nonzero(~there)[0]]
    return names if len(names) <= NAMED else [*names[:NAMED], f"and {len(names) - NAMED} more"]


def _unfinished(estimator: Any) -> bool:
    several = getattr(estimator, "estimators_", [estimator])
    return any(
        getattr(one, "max_iter", None) is not None
        and getattr(one, "n_iter_", None) is not None
        and int(np.max(one.n_iter_)) >= one.max_iter
        for one in several
    )
