"""What is in a model: its hook points, where each is, and the types of their values. Found out once, never changed."""

from __future__ import annotations

import functools
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import TypeAlias

import onnx

from onnxscope_server.catalog import asking, graph, hook_points, inference, own_functions, parts, quantization, slots
from onnxscope_server.catalog.description import HookPoint, Kind
from onnxscope_server.catalog.hook_points import Found
from onnxscope_server.catalog.parts import Expansion, Part
from onnxscope_server.catalog.quantization import Scaling
from onnxscope_server.catalog.runtime import Runtime
from onnxscope_server.catalog.scopes import Path, Place, scopes
from onnxscope_server.catalog.slots import Slot, free_name
from onnxscope_server.catalog.value_types import over_iterations
from onnxscope_server.domain import DataType, TensorType, ValueType
from onnxscope_server.errors import OnnxscopeServerError

_logger = logging.getLogger(__name__)
_SHAPES_KEPT = 16
_Bound: TypeAlias = tuple[frozenset[tuple[str, tuple[int, ...]]], bool]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A hook point before it has an address: what it is called in its graph, and what it is."""

    place: Place
    shown: str
    op_type: str
    depth: float
    kind: Kind


class Contents:
    """What is in a model. Safe to share between threads.

    Args:
        graph_bytes: a serialised ModelProto.
        data_folder: where its external data lies; None where there is none.
        overridable: whether initializers that are also inputs count as inputs.
        runtime: tells types that ONNX's inference does not find.
    """

    def __init__(
        self,
        graph_bytes: bytes,
        data_folder: FilePath | None,
        *,
        overridable: bool,
        runtime: Runtime | None = None,
    ) -> None:
        self._graph_bytes = graph_bytes
        self._data_folder = data_folder
        self._overridable = overridable
        self._runtime = runtime
        self._lock = threading.RLock()
        self._typed_lock = threading.Lock()
        self._typed: OrderedDict[_Bound, Mapping[Place, ValueType]] = OrderedDict()

    def points(self, *, expand: bool) -> tuple[HookPoint, ...]:
        """Returns the hook points, and with `expand` the parts of operators too, in the order of computation."""
        with self._lock:
            return self._expanded_points if expand else self._points

    def places(self, *, expand: bool) -> Mapping[str, Place]:
        """Returns where each hook point is, with `expand` the parts of operators too, by address."""
        with self._lock:
            return self._expanded_places if expand else self._places

    @functools.cached_property
    def slots(self) -> Mapping[Place, Slot]:
        """The unused output slots."""
        with self._lock:
            return MappingProxyType({slot.place: slot for slot in self._slots})

    @functools.cached_property
    def parts(self) -> Mapping[Place, Expansion]:
        """What each part of an operator belongs to."""
        with self._lock:
            return MappingProxyType({part.place: item for item in self._expansions for part in item.parts})

    @functools.cached_property
    def scalings(self) -> Mapping[Place, Scaling]:
        """How quantised values are."""
        with self._lock:
            return MappingProxyType(quantization.listed(self._parsed()))

    @functools.cached_property
    def has_half_precision(self) -> bool:
        """Whether some value is float16 or bfloat16."""
        arrays = (type_ for type_ in self.typed({}).values() if isinstance(type_, TensorType))
        return any(type_.data_type in (DataType.FLOAT16, DataType.BFLOAT16) for type_ in arrays)

    def typed(self, input_shapes: Mapping[str, tuple[int, ...]], *, expand: bool = False) -> Mapping[Place, ValueType]:
        """Infers the types of values and unused slots, without running the model or opening the weights.

        Args:
            input_shapes: number of elements along every axis, by input; inputs that are not named stay as declared.
            expand: the parts of operators too.

        Returns:
            Types of one iteration, by place; values of which nothing is known are left out.
        """
        key = (frozenset(input_shapes.items()), expand)
        with self._typed_lock:
            found = self._typed.get(key)
        if found is None:
            with self._lock:
                found = self._typed.get(key)
                if found is None:
                    found = MappingProxyType(self._inferred(input_shapes, expand=expand))
        with self._typed_lock:
            self._typed[key] = found
            self._typed.move_to_end(key)
            while len(self._typed) > _SHAPES_KEPT:
                self._typed.popitem(last=False)
        return found

    def typed_activations(
        self, input_shapes: Mapping[str, tuple[int, ...]], *, expand: bool = False
    ) -> Mapping[str, ValueType]:
        """Does what `typed` does, for what hook points hold over all iterations.

        Returns:
            Types by address.
        """
        with self._lock:
            addresses = self._expanded_addresses if expand else self._addresses
        return {
            addresses[place]: over_all
            for place, type_ in self.typed(input_shapes, expand=expand).items()
            if place in addresses and (over_all := over_iterations(type_, place.repeats)) is not None
        }

    @functools.cached_property
    def _points(self) -> tuple[HookPoint, ...]:
        return _made(self._entries, self._addresses, self.typed({}))

    @functools.cached_property
    def _places(self) -> Mapping[str, Place]:
        return MappingProxyType({address: place for place, address in self._addresses.items()})

    @functools.cached_property
    def _expanded_places(self) -> Mapping[str, Place]:
        return MappingProxyType({address: place for place, address in self._expanded_addresses.items()})

    @functools.cached_property
    def _expanded_points(self) -> tuple[HookPoint, ...]:
        of_node: dict[Place, tuple[Part, ...]] = {item.anchor: item.parts for item in self._expansions}
        entries = []
        for entry in self._entries:
            for part in of_node.get(entry.place, ()):
                kind = Kind.ACTIVATION if part.depends else Kind.CONSTANT
                depth = entry.depth if part.depends else 0.0
                entries.append(_Entry(part.place, part.shown, part.op_type, depth, kind))
            entries.append(entry)
        return _made(entries, self._expanded_addresses, self.typed({}, expand=True))

    @functools.cached_property
    def _entries(self) -> list[_Entry]:
        of_node: dict[Place, list[Slot]] = {}
        for slot in self._slots:
            of_node.setdefault(Place(slot.place.path, slot.anchor), []).append(slot)
        entries = []
        for found in self._found:
            entries.append(_Entry(found.place, found.place.name, found.op_type, found.depth, found.kind))
            entries.extend(
                _Entry(slot.place, slot.shown, found.op_type, found.depth, Kind.UNUSED)
                for slot in of_node.get(found.place, ())
            )
        return entries

    @functools.cached_property
    def _addresses(self) -> dict[Place, str]:
        """Addresses of the hook points; those of the main graph are the values' own names, whatever comes later."""
        taken = {entry.place.name for entry in self._entries if not entry.place.path}
        return {entry.place: self._address(entry.place, entry.shown, taken) for entry in self._entries}

    @functools.cached_property
    def _expanded_addresses(self) -> dict[Place, str]:
        taken = set(self._addresses.values())
        of_parts = [part for item in self._expansions for part in item.parts]
        return self._addresses | {part.place: self._address(part.place, part.shown, taken) for part in of_parts}

    def _address(self, place: Place, shown: str, taken: set[str]) -> str:
        return free_name(self._prefixes[place.path] + shown, taken) if place.path else place.name

    @functools.cached_property
    def _prefixes(self) -> dict[Path, str]:
        return {scope.path: scope.prefix for scope in scopes(self._parsed())}

    @functools.cached_property
    def _found(self) -> tuple[Found, ...]:
        model = graph.from_proto(self._parsed())
        return hook_points.listed(model, self._prefixes, overridable=self._overridable)

    @functools.cached_property
    def _slots(self) -> tuple[Slot, ...]:
        return slots.listed(self._parsed())

    @functools.cached_property
    def _expansions(self) -> tuple[Expansion, ...]:
        dependent = {found.place for found in self._found if found.depends}
        return parts.listed(self._parsed(), self.typed({}), dependent)

    def _parsed(self) -> onnx.ModelProto:
        """Returns the model, each call with a function of its own."""
        proto = graph.parse(self._graph_bytes)
        own_functions.give(proto)
        return proto

    def _filled(self) -> onnx.ModelProto:
        """Returns the model with a name for every output slot."""
        proto = self._parsed()
        slots.fill(proto, self._slots)
        return proto

    def _inferred(self, input_shapes: Mapping[str, tuple[int, ...]], *, expand: bool) -> dict[Place, ValueType]:
        if not (input_shapes or expand or self._told):
            return self._untold
        proto = self._filled()
        if expand:
            parts.add(proto, self._expansions)
        types = inference.types(proto, input_shapes, self._told)
        types = {**self._told, **types}
        if expand:
            types |= parts.types(self._expansions, types)
        return types

    @functools.cached_property
    def _untold(self) -> dict[Place, ValueType]:
        """Types that ONNX's inference finds by itself."""
        return inference.types(self._filled(), {})

    @functools.cached_property
    def _told(self) -> dict[Place, ValueType]:
        """Types that ONNX's inference does not find and the runtime knows: above all of com.microsoft's operators."""
        return {**self._told_inside, **self._told_on_top} if self._runtime is not None else {}

    @functools.cached_property
    def _told_on_top(self) -> dict[Place, ValueType]:
        found = {place.name for place in self._untold if not place.path}
        filled = graph.parse(self._graph_bytes)
        slots.fill(filled, [slot for slot in self._slots if not slot.place.path])
        # an unused output may be more than the runtime can do
        told = self._asked(asking.of_main_graph(filled, found))
        told = told or self._asked(asking.of_main_graph(graph.parse(self._graph_bytes), found))
        return {Place((), name): type_ for name, type_ in told.items() if name not in found}

    @functools.cached_property
    def _told_inside(self) -> dict[Place, ValueType]:
        proto, filled = self._parsed(), self._filled()
        all_scopes = list(scopes(proto))
        if len(all_scopes) == 1:
            return {}
        on_top = self._told_on_top
        known = inference.types(self._filled(), {}, on_top) if on_top else self._untold
        told: dict[Place, ValueType] = {}
        for scope, with_slots in zip(all_scopes, scopes(filled), strict=True):
            if scope.path:
                types = {**told, **known}
                answers = self._asked(asking.of_scope(filled, with_slots, types))
                answers = answers or self._asked(asking.of_scope(proto, scope, types))
                told |= {Place(scope.path, name): type_ for name, type_ in answers.items()}
            told |= dict(asking.handed_in(proto, scope, {**told, **known}))
        return told

    def _asked(self, exposing: bytes | None) -> dict[str, ValueType]:
        if exposing is None or self._runtime is None:
            return {}
        try:
            told = self._runtime.output_types(exposing, self._data_folder)
        except OnnxscopeServerError as error:
            _logger.debug("the runtime tells no types: %s", error)
            return {}
        return {name: type_ for name, type_ in told.items() if type_ is not None}


def _made(
    entries: Iterable[_Entry], addresses: Mapping[Place, str], types: Mapping[Place, ValueType]
) -> tuple[HookPoint, ...]:
    return tuple(
        HookPoint(
            addresses[entry.place],
            entry.op_type,
            over_iterations(types.get(entry.place), entry.place.repeats),
            entry.depth,
            entry.kind,
        )
        for entry in entries
    )
