"""Examples of a reduction: which rows or positions they are, their labels, and the token that each has read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from onnxscope_server.domain import Array, Reduction, ReductionKind
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.pipeline.probing.batch import ProbeBatch
from onnxscope_server.probe_domain import Labels, Task

IGNORED = -100
_ENDS = {ReductionKind.FIRST: 0, ReductionKind.LAST: -1}


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of one batch.

    Attributes:
        batch: what came.
        first: number of the first row.
        count: of rows that are no filling.
        extent: of the batch axis, filling included.
        ids: int64 [row, position]: token ids, or what stands for texts; None where the model's input is neither.
    """

    batch: ProbeBatch
    first: int
    count: int
    extent: int
    ids: Array | None

    def mask(self, reduction: Reduction | None) -> Array | None:
        """Returns the mask of a reduction, bool [row, position]; None for none."""
        if reduction is None or (reduction.mask_input is None and reduction.mask_value is None):
            return None
        value = self.batch.inputs.get(reduction.mask_input) if reduction.mask_input else None
        found = self.batch.masks.get(reduction.mask_value) if reduction.mask_value else value
        if not isinstance(found, np.ndarray) or not self.extent or found.size % self.extent:
            raise DataInvalidError(
                f"the mask {reduction.mask_input or reduction.mask_value!r} has to be sent with each batch, an array "
                "[row, position]",
                what="mask",
            )
        kept: Array = (found != 0).reshape(self.extent, -1)
        return kept


@dataclass(slots=True)
class _Parts:
    """What examples are, batch by batch."""

    y: list[Array] = field(default_factory=list)
    row: list[Array] = field(default_factory=list)
    types: list[Array] = field(default_factory=list)
    weights: list[Array] = field(default_factory=list)


class Examples:
    """Gathers what belongs to the activations of one reduction.

    Args:
        reduction: None for none; examples are positions for `positions`, rows else.
        task: what labels were said to be; None to find that out.
        is_supervised: whether the probe learns from labels.

    Attributes:
        has_types: whether each example so far has read a token.
        last: row in its batch and position of each example of the last batch; None where examples are rows.
        last_width: positions of a row of the last batch.
    """

    def __init__(self, reduction: Reduction | None, task: Task | None, *, is_supervised: bool) -> None:
        self._reduction = reduction
        self._task = task
        self._is_supervised = is_supervised
        self._has_positions = reduction is not None and reduction.kind is ReductionKind.POSITIONS
        self._parts = _Parts()
        self.has_types = True
        self.last: tuple[Array, Array] | None = None
        self.last_width = 0

    def width(self, rows: Rows) -> int | None:
        """Returns the positions that a row has, as far as that is known without its activations; 0 for no positions."""
        if not self._has_positions:
            return 0
        mask, labels = rows.mask(self._reduction), rows.batch.labels
        if mask is not None:
            return int(mask.shape[1])
        return int(labels.shape[1]) if self._are_of_positions(labels) and labels is not None else None

    def add(self, rows: Rows, made: int | None) -> Callable[[Array], Array]:
        """Takes a batch.

        Args:
            rows: of the batch.
            made: activations that the batch has brought; None where they are known from before.

        Returns:
            What picks the examples among the activations [example of all rows, feature].

        Raises:
            DataInvalidError: labels, mask and activations contradict each other.
        """
        labels = rows.batch.labels
        if labels is None and self._is_supervised:
            raise DataInvalidError(
                "A batch has no labels; this kind learns from labels. Kinds that need none are pca and kmeans.",
                what="labels",
            )
        if self._has_positions:
            return self._add_positions(rows, made)
        if made is not None and made != rows.extent:
            raise DataInvalidError(
                f"A batch of {rows.extent} rows brought {made} activations. A reduction that keeps one for each row, "
                "or 'positions', is needed.",
                what="activations",
            )
        if labels is not None:
            if labels.ndim > 1 and labels.dtype.kind in "iu" and self._task in (None, Task.CLASSES):
                raise DataInvalidError(
                    f"Labels {list(labels.shape)} are for positions, and this hook point has one activation a row. "
                    "Choose the reduction 'positions', or give bool [row, label] for several labels a row.",
                    what="labels",
                )
            self._keep_labels(labels)
        kept = np.arange(rows.count)
        self._keep(rows, kept, kept, self._read(rows))
        return lambda activations: activations[: rows.count]

    def labels(self, groups: Array | None, test: Array | None) -> Labels:
        """Returns the labels of all examples; call it once.

        Args:
            groups: [row].
            test: [row].
        """
        parts = self._parts
        y = np.concatenate(parts.y) if parts.y else None
        weights = np.concatenate(parts.weights).astype(np.float64) if parts.weights else None
        row = np.concatenate(parts.row) if parts.row else np.zeros(0, np.int64)
        return Labels(y, row, groups, weights, test)

    @property
    def are_positions(self) -> bool:
        """Whether examples are positions, not rows."""
        return self._has_positions

    @property
    def types(self) -> Array | None:
        """int64 [example]: the token that each has read; None where there is no such thing."""
        return np.concatenate(self._parts.types) if self.has_types and self._parts.types else None

    def _add_positions(self, rows: Rows, made: int | None) -> Callable[[Array], Array]:
        mask, labels, width = rows.mask(self._reduction), rows.batch.labels, self.width(rows)
        if width is None:
            width = (made or 0) // max(1, rows.extent)
        self.last_width = width
        kept = np.ones((rows.extent, width), np.bool_) if mask is None else mask
        if made is not None and made != int(kept.sum()):
            raise DataInvalidError(
                f"{made} positions came from the model, where mask or labels of {rows.extent} rows with {width} "
                f"positions tell of {int(kept.sum())}. Labels are [row, position], with as many positions as the hook "
                "point has.",
                what="labels",
            )
        wanted = kept.copy()
        wanted[rows.count :] = False
        row, position = np.nonzero(wanted)
        if labels is not None:
            if self._are_of_positions(labels):
                if labels.shape[1] != width:
                    raise DataInvalidError(
                        f"Labels {list(labels.shape)} have {labels.shape[1]} positions, and the mask {width}.",
                        what="labels",
                    )
                said = labels[row, position]
                has_label = ~np.isnan(said) if said.dtype.kind == "f" else said != IGNORED
                if has_label.ndim == 1:
                    wanted[row[~has_label], position[~has_label]] = False
                    row, position, said = row[has_label], position[has_label], said[has_label]
            else:
                said = labels[row]
            self._keep_labels(said)
        among = wanted[kept]
        ids = rows.ids
        types = ids[row, position] if ids is not None and ids.shape[1] == width else None
        self._keep(rows, row, position, types)
        return lambda activations: activations[among]

    def _keep_labels(self, labels: Array) -> None:
        y, before = self._typed(labels), self._parts.y
        if before and (y.shape[1:] != before[0].shape[1:] or (y.dtype.kind == "O") != (before[0].dtype.kind == "O")):
            raise DataInvalidError(
                f"Labels are {_form(before[0])} in one batch and {_form(y)} in another. Give them alike in all "
                "batches.",
                what="labels",
            )
        before.append(y)

    def _keep(self, rows: Rows, row: Array, position: Array, types: Array | None) -> None:
        self._parts.row.append(row + rows.first)
        if self._has_positions:
            self.last = row, position
        if rows.batch.weights is not None:
            self._parts.weights.append(rows.batch.weights[row])
        if types is None:
            self.has_types = False
        else:
            self._parts.types.append(types)

    def _read(self, rows: Rows) -> Array | None:
        """Returns the token of each row: the only one, or that of the position which the reduction reads."""
        ids, reduction = rows.ids, self._reduction
        if ids is None or not ids.shape[1]:
            return None
        if ids.shape[1] == 1:
            return ids[: rows.count, 0]
        place = self._place(rows, ids) if reduction is not None and reduction.axis in (None, 1, -2) else None
        if place is None or not -ids.shape[1] <= int(place.min()) <= int(place.max()) < ids.shape[1]:
            return None
        found: Array = ids[np.arange(len(ids)), place][: rows.count]
        return found

    def _place(self, rows: Rows, ids: Array) -> Array | None:
        """Returns the position that the reduction reads of each row, int64 [row]; None where it reads several."""
        reduction = self._reduction
        if reduction is None:
            return None
        if reduction.kind is ReductionKind.INDEX:
            return np.full(len(ids), reduction.index, np.int64)
        if reduction.kind not in _ENDS:
            return None
        mask = rows.mask(reduction)
        if mask is None or mask.shape != ids.shape:
            return np.full(len(ids), _ENDS[reduction.kind], np.int64)
        is_first = reduction.kind is ReductionKind.FIRST
        return np.asarray(mask.argmax(axis=1) if is_first else -1 - mask[:, ::-1].argmax(axis=1))

    def _are_of_positions(self, labels: Array | None) -> bool:
        """Tells whether labels are [row, position, ...] and not [row, label]."""
        least = 3 if self._task is Task.MULTILABEL else 2
        return labels is not None and labels.ndim >= least

    def _typed(self, labels: Array) -> Array:
        """Returns labels in one of the types that `Labels.y` has."""
        kind = labels.dtype.kind
        if kind in "OUS":
            return labels.astype(object)
        if self._task is Task.MULTILABEL:
            return labels.astype(np.bool_)
        if self._task is Task.REGRESSION:
            return labels.astype(np.float64)
        if kind == "b":
            return labels if labels.ndim > 1 else labels.astype(np.int64)
        if kind in "iu" or (self._task is Task.CLASSES and bool((labels == np.round(labels)).all())):
            return labels.astype(np.int64)
        # ml_dtypes' floats too
        return labels.astype(np.float64)


def _form(labels: Array) -> str:
    kind = "text" if labels.dtype.kind == "O" else labels.dtype
    return f"{kind} [{', '.join(map(str, ('row', *labels.shape[1:])))}]"
