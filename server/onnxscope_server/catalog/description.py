"""What the catalog tells of a model: its names, its inputs and outputs, its hook points."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from onnxscope_server.domain import ValueType


@dataclass(frozen=True, slots=True)
class ValueSpec:
    """An input or output of a model; `type` is None where the model doesn't say."""

    name: str
    type: ValueType | None


class Kind(enum.StrEnum):
    """What a hook point is."""

    INPUT = "input"
    ACTIVATION = "activation"
    OUTPUT = "output"
    CONSTANT = "constant"
    WEIGHT = "weight"
    UNUSED = "unused"


@dataclass(frozen=True, slots=True)
class HookPoint:
    """A named place of a model whose value can be read.

    Attributes:
        address: the name that selectors and captures use.
        op_type: operator that computes it, `domain:Type` outside of ONNX's own; empty for inputs and weights.
        type: as far as known without running.
        depth: longest path from an input, as a share of the model's longest; 0 to 1.
        kind: what it is.
        batch_axis: axis of the rows; None where there is none or it was not looked for.
    """

    address: str
    op_type: str
    type: ValueType | None
    depth: float
    kind: Kind
    batch_axis: int | None = None


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One version of a name in the catalog. `load_time` is seconds since the epoch."""

    name: str
    version: str
    digest: str
    load_time: float
    read_only: bool
