"""Frozen values that the stages exchange: types, specs, plans, segments and results.

A value at run time (`Value`) is a numpy array in its own dtype (`ml_dtypes` for what numpy lacks; strings are object
arrays of `str`), a list of values (sequence), a dict (map) or `None` (an optional that is not there).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Value: TypeAlias = "Array | list[Value] | dict[Any, Any] | None"
Dimension: TypeAlias = int | str | None
Shape: TypeAlias = tuple[Dimension, ...]


class DataType(enum.IntEnum):
    """Type of one element, numbered as ONNX's `TensorProto.DataType`."""

    FLOAT32 = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    STRING = 8
    BOOL = 9
    FLOAT16 = 10
    FLOAT64 = 11
    UINT32 = 12
    UINT64 = 13
    COMPLEX64 = 14
    COMPLEX128 = 15
    BFLOAT16 = 16
    FLOAT8E4M3FN = 17
    FLOAT8E4M3FNUZ = 18
    FLOAT8E5M2 = 19
    FLOAT8E5M2FNUZ = 20
    UINT4 = 21
    INT4 = 22
    FLOAT4E2M1 = 23
    FLOAT8E8M0 = 24
    UINT2 = 25
    INT2 = 26


@dataclass(frozen=True, slots=True)
class TensorType:
    """Type of an array; `shape` is None where not even the rank is known."""

    data_type: DataType
    shape: Shape | None = None
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class SequenceType:
    """Type of a list; `element` is None where it is unknown."""

    element: ValueType | None


@dataclass(frozen=True, slots=True)
class MapType:
    """Type of a dictionary."""

    key: DataType
    value: ValueType | None


@dataclass(frozen=True, slots=True)
class OptionalType:
    """Type of a value that may be absent."""

    element: ValueType | None


ValueType: TypeAlias = TensorType | SequenceType | MapType | OptionalType


class ReductionKind(enum.StrEnum):
    """Operators that make an activation smaller; see capture_service.proto for the axes."""

    MEAN = "mean"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    FLATTEN = "flatten"
    POSITIONS = "positions"
    SPATIAL_MEAN = "spatial_mean"
    NORM = "norm"
    INDEX = "index"
    TOPK = "topk"


@dataclass(frozen=True, slots=True)
class Reduction:
    """One reduction.

    Attributes:
        kind: the operator.
        axis: axis to reduce over; None for the kind's default.
        index: along the axis, for `index`.
        k: for `topk`.
        mask_input: name of a model input [row, position] that says which positions count.
        mask_value: name of a mask [row, position] that the call brings along.
    """

    kind: ReductionKind
    axis: int | None = None
    index: int | None = None
    k: int | None = None
    mask_input: str | None = None
    mask_value: str | None = None


class OutputMode(enum.StrEnum):
    """Where a call's model outputs come from."""

    UNMODIFIED = "unmodified"
    INSTRUMENTED = "instrumented"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class CaptureSpec:
    """What a call asks of a model, as it was said."""

    model: str
    version: str = ""
    selectors: tuple[str, ...] = ()
    reductions: tuple[tuple[str, Reduction], ...] = ()
    outputs: OutputMode = OutputMode.UNMODIFIED
    exact: bool = False
    expand: bool = False
    dequantize: bool = False
    probes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a captured value is quantised: real = (stored - zero point) * scale.

    Attributes:
        scale: address of the scale: a scalar, or one for each entry or block along the axis.
        zero_point: address of the zero point; None for 0.
        axis: along which scales differ.
        block_size: entries of the axis that share a scale; 0 for all or one.
    """

    scale: str
    zero_point: str | None
    axis: int
    block_size: int


@dataclass(frozen=True, slots=True)
class Capture:
    """One hook point to read, and what to do to it.

    Attributes:
        address: which.
        reduction: what to do in the graph.
        type: after dequantising and reduction.
        quantization: how the value is quantised, where it is.
    """

    address: str
    reduction: Reduction | None
    type: ValueType | None
    quantization: Quantization | None = None


@dataclass(frozen=True, slots=True)
class ProbeOutput:
    """An output of a probe.

    Attributes:
        name: in the probe's graph.
        value: the name that its value travels under.
        type: of one iteration, as far as it is known.
    """

    name: str
    value: str
    type: ValueType | None


@dataclass(frozen=True, slots=True)
class PlannedProbe:
    """A probe that runs with the model; it holds no data.

    Attributes:
        name: of the probe.
        digest: of its file.
        address: hook point that it reads.
        reduction: before the probe.
        type: of what it reads, reduced, of all iterations.
        input: type of what its graph takes.
        kind: of the probe.
        classes: in the order of its scores.
        outputs: what it gives.
        row_axis: axis of the rows in what it reads.
    """

    name: str
    digest: str
    address: str
    reduction: Reduction | None
    type: ValueType | None
    input: TensorType
    kind: str
    classes: tuple[int | str, ...]
    outputs: tuple[ProbeOutput, ...]
    row_axis: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A spec, resolved against a model. Equal plans share their sessions: it is hashable and holds no data.

    Attributes:
        digest: of the model.
        captures: in the order in which the caller gets them.
        outputs: where the model's outputs come from.
        exact: without optimisation.
        expand: whether parts of operators are among the captures.
        dequantize: whether quantised values come as real numbers.
        varying: whether values in bodies may have another shape in every iteration, whatever was inferred or declared.
        whole: whether it runs as one segment, whatever it brings.
        probes: in the order in which they were named.
    """

    digest: str
    captures: tuple[Capture, ...]
    outputs: OutputMode
    exact: bool
    expand: bool = False
    dequantize: bool = False
    varying: bool = False
    whole: bool = False
    probes: tuple[PlannedProbe, ...] = ()
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # plans of thousands of captures are looked up several times a call
        fields = (self.digest, self.captures, self.outputs, self.exact, self.expand, self.dequantize, self.varying)
        object.__setattr__(self, "_hash", hash((*fields, self.whole, self.probes)))

    def __hash__(self) -> int:
        return self._hash

    @property
    def is_watching(self) -> bool:
        """Whether it asks for more than the model's outputs."""
        return bool(self.captures or self.probes)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses of all that is captured or probed."""
        read: tuple[Capture | PlannedProbe, ...] = (*self.captures, *self.probes)
        return tuple(dict.fromkeys(item.address for item in read))

    @property
    def scalings(self) -> tuple[str, ...]:
        """Addresses of the scales and zero points of what is captured."""
        quantizations = (capture.quantization for capture in self.captures if capture.quantization)
        addresses = (address for item in quantizations for address in (item.scale, item.zero_point) if address)
        return tuple(dict.fromkeys(addresses))


@dataclass(frozen=True, slots=True)
class Output:
    """A reading: what a graph output holds."""

    name: str


@dataclass(frozen=True, slots=True)
class Each:
    """A reading of every iteration: its axis, or a list's, comes first."""

    item: Reading


@dataclass(frozen=True, slots=True)
class Taken:
    """A reading from a branch: None where the branch was not taken.

    Attributes:
        flag: whether it was.
        value: anything where it was not.
        outer: number of iterating bodies around the branch.
    """

    flag: Reading
    value: Reading
    outer: int


@dataclass(frozen=True, slots=True)
class Ragged:
    """A reading of lists that came as one.

    Attributes:
        values: the lists, one behind the other.
        counts: their lengths, int64 [list].
        outer: number of iterating bodies around them.
    """

    values: Reading
    counts: Reading
    outer: int


@dataclass(frozen=True, slots=True)
class Shaped:
    """A reading of an array that came flat, with its shape beside it.

    Attributes:
        elements: in one axis.
        shape: int64 [axis].
        data_type: what the elements are; they may come as another type that holds the same. None for what they come as.
        outer: number of iterating bodies around it.
    """

    elements: Reading
    shape: Reading
    data_type: DataType | None
    outer: int


Reading: TypeAlias = Output | Each | Taken | Ragged | Shaped


@dataclass(frozen=True, slots=True)
class Segment:
    """A rewritten graph, or a piece of one, that is ready for a session.

    Attributes:
        graph: serialised ModelProto, its large weights external.
        data_folder: where the external data lies; None where there is none.
        captures: how to read each captured address from graph outputs, its own and those of segments before it.
        scalings: how to read scales and zero points, by address.
        outputs: names of the model outputs that it computes.
        inputs: names of the model inputs that it needs.
        carried: names of values that segments before it made and it takes as graph inputs.
        handed: names of its graph outputs that segments behind it need.
        probes: how to read outputs of probes, by the names that they travel under.
        masks: graph input of each mask that the call brings, by its name in the reduction.
        node_count: number of nodes in the main graph.
    """

    graph: bytes
    data_folder: Path | None
    captures: Mapping[str, Reading]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    masks: Mapping[str, str]
    node_count: int
    scalings: Mapping[str, Reading] = field(default_factory=dict)
    carried: tuple[str, ...] = ()
    handed: tuple[str, ...] = ()
    probes: Mapping[str, Reading] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RowAxis:
    """Where the rows of an array are.

    Attributes:
        axis: along which they lie, one behind the other.
        per_row: entries of the axis that each row has.
    """

    axis: int
    per_row: int
