"""What the verbs give back: models, hook points, activations, and what they say when printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias, overload

import numpy as np

from onnxscope.names import closest
from onnxscope.probes.result import ProbeResult, ProbeResults
from onnxscope.show import tables
from onnxscope.show.table import Table
from onnxscope.v1.codec import Value

Shape: TypeAlias = tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or an output of a model.

    Attributes:
        name: the ONNX name, verbatim.
        dtype: `float32`, `bfloat16`, `string` ...; `sequence(float32)`, `map(int64, float32)` or
            `optional(float32)` for what is no plain array; `?` where the model doesn't say.
        shape: an int for a fixed size, a str for a symbolic one, None for an unknown one; None as a whole where not
            even the rank is known.
    """

    name: str
    dtype: str
    shape: Shape | None

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{'' if self.shape is None else tables.shape_text(self.shape)}"


@dataclass(frozen=True, slots=True)
class HookPoint:
    """A named place of a model whose value can be read.

    Attributes:
        address: what selectors and captures call it.
        op_type: the operator that computes it, `domain:Type` outside of ONNX's own; empty for inputs and weights.
        dtype: as in `TensorSpec`.
        shape: as in `TensorSpec`, as far as it is known without running.
        depth: nodes on the longest path from an input, as a share of the model's longest; 0 to 1.
        kind: input, activation, output, constant, weight or unused.
        batch_axis: the axis along which rows lie; None where there is none or it is not known.
    """

    address: str
    op_type: str
    dtype: str
    shape: Shape | None
    depth: float
    kind: str
    batch_axis: int | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One version of a model in the catalog.

    Attributes:
        name: what callers say.
        version: tells the models of one name apart.
        digest: SHA-256 of the model.
        inputs: what a caller must give.
        optional_inputs: inputs that have a default.
        outputs: what the model declares.
        providers: the execution providers that run it, first choice first.
        byte_count: size of the model file and its external data.
        load_time: when it came into the catalog, UTC.
        read_only: whether it lies in the server's models folder.
    """

    name: str
    version: str
    digest: str
    inputs: tuple[TensorSpec, ...] = ()
    optional_inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    providers: tuple[str, ...] = ()
    byte_count: int = 0
    load_time: datetime | None = None
    read_only: bool = False


class HookPoints(Table[HookPoint]):
    """Hook points in the order in which the model computes them; also by address: `points["relu_5"]`."""

    _columns = ("address", "operator", "dtype", "shape", "depth", "kind", "batch axis")
    _noun = "hook points"

    @overload
    def __getitem__(self, key: int | str) -> HookPoint: ...
    @overload
    def __getitem__(self, key: slice) -> HookPoints: ...
    def __getitem__(self, key: int | str | slice) -> HookPoint | HookPoints:
        if isinstance(key, slice):
            return HookPoints(self._items[key])
        if isinstance(key, str):
            for item in self._items:
                if item.address == key:
                    return item
            raise KeyError(closest(key, self.addresses, "hook point"))
        return self._items[key]

    def __contains__(self, key: object) -> bool:
        return key in self._items or any(item.address == key for item in self._items)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses alone, in order."""
        return tuple(item.address for item in self._items)

    def _row(self, item: HookPoint) -> Sequence[str]:
        axis = "" if item.batch_axis is None else str(item.batch_axis)
        shape = tables.shape_text(item.shape)
        return item.address, item.op_type, item.dtype, shape, f"{item.depth:.2f}", item.kind, axis


class Models(Table[ModelInfo]):
    """The versions of all models in the catalog; also by name, which gives the newest: `models["digits"]`."""

    _columns = ("name", "version", "digest", "inputs", "outputs", "size", "loaded")
    _noun = "models"

    @overload
    def __getitem__(self, key: int | str) -> ModelInfo: ...
    @overload
    def __getitem__(self, key: slice) -> Models: ...
    def __getitem__(self, key: int | str | slice) -> ModelInfo | Models:
        if isinstance(key, slice):
            return Models(self._items[key])
        if isinstance(key, str):
            for item in reversed(self._items):
                if item.name == key:
                    return item
            raise KeyError(closest(key, [item.name for item in self._items], "model"))
        return self._items[key]

    def __contains__(self, key: object) -> bool:
        return key in self._items or any(item.name == key for item in self._items)

    def _row(self, item: ModelInfo) -> Sequence[str]:
        loaded = item.load_time.strftime("%Y-%m-%d %H:%M") if item.load_time else ""
        inputs, outputs = (", ".join(map(str, specs)) for specs in (item.inputs, item.outputs))
        return (
            item.name,
            item.version,
            item.digest[:12],
            inputs,
            outputs,
            tables.byte_text(item.byte_count),
            loaded,
        )


@dataclass(frozen=True, slots=True)
class Fidelity:
    """What watching did to a run.

    Attributes:
        fusion_blocked: whether exposing values changed how an output is computed.
        changed_operators: operators of the optimised unmodified model that the instrumented one lacks.
        max_output_difference: largest absolute difference between the outputs of the unmodified and of the
            instrumented run; None where only one of them ran.
    """

    fusion_blocked: bool = False
    changed_operators: tuple[str, ...] = ()
    max_output_difference: float | None = None


class Values(Mapping[str, Value]):
    """Named values; a name that is not there is answered with the closest ones."""

    _noun = "output"

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:  # Any: what is in there is up to the model, mostly an array
        try:
            return self._values[name]
        except KeyError:
            raise KeyError(closest(name, self._values, self._noun)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __repr__(self) -> str:
        columns, rows = (self._noun, "dtype", "shape"), self._rows()
        if not rows:
            return f"no {self._noun}s"
        return tables.text(columns, rows, max_rows=tables.MAX_ROWS)

    def _repr_html_(self) -> str:
        return tables.as_html((self._noun, "dtype", "shape"), self._rows(), max_rows=tables.MAX_ROWS)

    def _rows(self) -> list[tuple[str, str, str]]:
        return [(name, *_look(value)) for name, value in self._values.items()]


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a value is quantised: real = (stored - zero point) * scale.

    Attributes:
        scale: a scalar, or one scale for each entry or block along the axis; its own floating dtype.
        zero_point: of the stored value's dtype and the scale's shape; None for zero.
        axis: along which scales differ, negative from the end.
        block_size: entries of the axis that share a scale; 0 for all of them, or one.
    """

    scale: Value
    zero_point: Value | None
    axis: int
    block_size: int


class Activations(Values):
    """Activations by address, in the order of the plan.

    Attributes:
        quantization: scale and zero point of those that are quantised in the model, by address.
        outputs: the model's outputs by name; empty where `outputs=False`.
        probes: results of probes by name.
        fidelity: what watching did to this run.
        timings: seconds per stage: `plan`, `session`, `run`; `queue` is the wait for calls to be run together with.
    """

    _noun = "activation"

    def __init__(
        self,
        activations: Mapping[str, Value],
        *,
        outputs: Mapping[str, Value] | None = None,
        fidelity: Fidelity | None = None,
        timings: Mapping[str, float] | None = None,
        quantization: Mapping[str, Quantization] | None = None,
        probes: Mapping[str, ProbeResult] | None = None,
    ) -> None:
        super().__init__(activations)
        self.quantization = dict(quantization or {})
        self.outputs = Values(outputs or {})
        self.probes = ProbeResults(probes or {})
        self.fidelity = fidelity or Fidelity()
        self.timings = dict(timings or {})

    def __repr__(self) -> str:
        blocks = [super().__repr__()]
        blocks += [repr(part) for part in (self.outputs, self.probes) if part]
        return "\n\n".join(blocks)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RunResult:
    """What a plain run brought.

    Attributes:
        outputs: the model's outputs by name.
        probes: results of probes by name.
        timings: seconds per stage: `plan`, `session`, `run`; `queue` is the wait for calls to be run together with.
    """

    outputs: Values
    probes: ProbeResults = field(default_factory=ProbeResults)
    timings: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        return "\n\n".join(repr(part) for part in (self.outputs, self.probes) if part) or repr(self.outputs)


@dataclass(frozen=True, slots=True)
class PlannedValue:
    """A value that a capture would bring; `byte_count` is None where a size is not known."""

    name: str
    is_output: bool
    dtype: str
    shape: Shape | None
    byte_count: int | None


class CapturePlan(Table[PlannedValue]):
    """What a capture would bring and cost.

    Attributes:
        known_byte_count: sum of the sizes that are known.
        unknown_count: number of values whose size is not known.
        node_count: nodes of the graph that would run.
        model_node_count: nodes of the whole model.
    """

    _columns = ("value", "is", "dtype", "shape", "size")
    _noun = "values"

    def __init__(
        self,
        items: Iterable[PlannedValue],
        *,
        known_byte_count: int,
        unknown_count: int,
        node_count: int,
        model_node_count: int,
    ) -> None:
        super().__init__(items)
        self.known_byte_count = known_byte_count
        self.unknown_count = unknown_count
        self.node_count = node_count
        self.model_node_count = model_node_count

    @overload
    def __getitem__(self, key: int) -> PlannedValue: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[PlannedValue, ...]: ...
    def __getitem__(self, key: int | slice) -> PlannedValue | tuple[PlannedValue, ...]:
        return self._items[key]

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self._total()}"

    def __repr__(self) -> str:
        return f"{super().__repr__()}; {self._total()}"

    def _total(self) -> str:
        unknown = f" and {self.unknown_count} of unknown size" if self.unknown_count else ""
        share = f"{self.node_count} nodes run, the model has {self.model_node_count}"
        return f"{tables.byte_text(self.known_byte_count)}{unknown}; {share}"

    def _row(self, item: PlannedValue) -> Sequence[str]:
        role = "output" if item.is_output else "activation"
        return (
            item.name,
            role,
            item.dtype,
            tables.shape_text(item.shape),
            tables.byte_text(item.byte_count),
        )


def _look(value: Value) -> tuple[str, str]:
    """Returns what a table says of a value: its dtype and its shape."""
    if value is None:
        return "absent", ""
    if isinstance(value, list):
        kinds = sorted({_look(item)[0] for item in value})
        return f"list of {', '.join(kinds) or 'nothing'}", f"{len(value)} items"
    if isinstance(value, dict):
        return "dict", f"{len(value)} entries"
    array = np.asarray(value)
    return "string" if array.dtype.kind in "OUS" else array.dtype.name, tables.shape_text(array.shape)
