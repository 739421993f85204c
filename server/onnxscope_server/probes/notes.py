"""What the reader of a report must know beside its figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxscope_server.domain import Array
from onnxscope_server.probe_domain import Fitted, ProbeKind, Task
from onnxscope_server.probes import kinds
from onnxscope_server.probes.splits import Split
from onnxscope_server.probes.targets import Targets
from onnxscope_server.probes.trials import SILHOUETTE_EXAMPLES

NAMED = 5  # classes that a note names
FEW_UNITS = 10  # held out of a class, below which nobody knows how well it is told from others
MANY_CLASSES = 50


def of(kept: Fitted, targets: Targets, parts: list[Split]) -> list[str]:
    """Returns notes on a fit and its splits."""
    texts = []
    if _unfinished(kept.estimator):
        standardize = "" if kept.scaler is not None else ", or standardize"
        texts.append(f"the fit ended before it converged: raise max_iter{standardize}")
    if targets.task in {Task.CLASSES, Task.MULTILABEL}:
        what = "class" if targets.task == Task.CLASSES else "label"
        for name in ("train", "test"):
            counts = _unit_counts(targets, np.concatenate([getattr(part, name) for part in parts]))
            if missing := _named(targets, counts == 0):
                where = "learn from" if name == "train" else "test on"
                texts.append(f"there is no row to {where} of {what} {missing}")
            if name == "test" and (few := _named(targets, (counts > 0) & (counts < FEW_UNITS))):
                texts.append(
                    f"fewer than {FEW_UNITS} rows (or groups) are held out of {what} {few}: intervals of scores in "
                    "which each counts the same, all but accuracy, are too narrow"
                )
    if targets.task == Task.CLASSES and kept.classes != targets.classes:
        names = _named(targets, np.ones(len(targets.classes), np.bool_))
        texts.append(f"the probe knows {len(kept.classes)} classes; those of the confusion matrix are {names}")
    if targets.task == Task.MULTILABEL and len(targets.classes) > 1:
        texts.append("accuracy counts rows on which every label is right; the other scores are means over the labels")
    if kept.kind in kinds.BOTH and len(targets.classes) >= MANY_CLASSES and isinstance(targets.classes[0], int):
        texts.append(f"labels y are integers, and so {len(targets.classes)} classes: for a regression give floats")
    if kept.kind == ProbeKind.KMEANS and any(len(part.test) > SILHOUETTE_EXAMPLES for part in parts):
        texts.append(f"the silhouette is of {SILHOUETTE_EXAMPLES} held-out examples")
    return texts


def _unit_counts(targets: Targets, examples: Array) -> Array:
    """Returns how many rows (or groups) of some examples have each class or label, int64 [class]."""
    truth, unit = targets.truth[examples], targets.unit[examples]
    of_class = truth.T if targets.task == Task.MULTILABEL else (truth == n for n in range(len(targets.classes)))
    return np.array([len(np.unique(unit[has])) for has in of_class])


def _named(targets: Targets, chosen: Array) -> str:
    """Returns the names of some classes or labels, bool [class]."""
    names = [str(targets.classes[number]) for number in np.nonzero(chosen)[0]]
    return ", ".join(names if len(names) <= NAMED else [*names[:NAMED], f"and {len(names) - NAMED} more"])


def _unfinished(estimator: Any) -> bool:
    several = getattr(estimator, "estimators_", [estimator])
    return any(
        getattr(one, "max_iter", None) is not None
        and getattr(one, "n_iter_", None) is not None
        and int(np.max(one.n_iter_)) >= one.max_iter
        for one in several
    )
