"""A model of the catalog: what it is made of and what is in it, parsed once, never changed."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import onnx
import onnx_ir as ir

from onnxscope_server.catalog import functions, graph, hook_points, inference, parts, slots, text
from onnxscope_server.catalog.parts import Expansion
from onnxscope_server.catalog.slots import Slot
from onnxscope_server.catalog.value_types import value_type
from onnxscope_server.domain import HookPoint, Kind, ValueSpec, ValueType

_OVERRIDABLE_IR_VERSION = 4
_SHAPES_KEPT = 16
_Bound: TypeAlias = tuple[frozenset[tuple[str, tuple[int, ...]]], bool]


class CatalogModel:
    """A model: its bytes and what they say. Immutable and safe to share between threads.

    Args:
        digest: of the model file and its external data.
        byte_count: of the model file and its external data.
        graph_bytes: a serialised ModelProto; large weights are best external.
        data_folder: where the external data lies; None where there is none.

    Attributes:
        digest: of the model file and its external data.
        byte_count: of the model file and its external data.
        graph_bytes: the serialised ModelProto.
        data_folder: where the external data lies; None where there is none.
        inputs: what a caller must give, in the model's order.
        optional_inputs: inputs that have a default, an initializer of the same name.
        outputs: what the model declares, in its order.
        node_count: nodes of the main graph.

    Raises:
        ModelInvalidError: the bytes are no ONNX model.
    """

    def __init__(self, *, digest: str, byte_count: int, graph_bytes: bytes, data_folder: Path | None) -> None:
        proto = graph.parse(graph_bytes)
        text.check(proto)
        functions.check_expansion(proto)
        self.digest = digest
        self.byte_count = byte_count
        self.graph_bytes = graph_bytes
        self.data_folder = data_folder
        self.node_count = len(proto.graph.node)
        defaults = {tensor.name for tensor in proto.graph.initializer}
        defaults |= {sparse.values.name for sparse in proto.graph.sparse_initializer}
        self.inputs = tuple(_spec(item) for item in proto.graph.input if item.name not in defaults)
        # older versions of the format list every initializer as an input; onnxruntime treats those as fixed
        overridable = proto.ir_version >= _OVERRIDABLE_IR_VERSION
        self._overridable = overridable
        self.optional_inputs = (
            tuple(_spec(item) for item in proto.graph.input if item.name in defaults) if overridable else ()
        )
        types = {info.name: value_type(info.type) for info in proto.graph.value_info}
        self.outputs = tuple(
            ValueSpec(item.name, value_type(item.type) or types.get(item.name)) for item in proto.graph.output
        )
        self._lock = threading.Lock()
        self._typed_lock = threading.Lock()
        self._typed: OrderedDict[_Bound, Mapping[str, ValueType]] = OrderedDict()

    @classmethod
    def from_bytes(cls, data: bytes, folder: Path | None = None) -> CatalogModel:
        """Makes a model from the bytes of a model file, without a catalog.

        Args:
            data: a serialised ModelProto.
            folder: where its external data lies.

        Returns:
            The model; its digest is that of the file alone.

        Raises:
            ModelInvalidError: the bytes are no ONNX model.
        """
        digest = hashlib.sha256(data).hexdigest()
        return cls(digest=digest, byte_count=len(data), graph_bytes=data, data_folder=folder)

    def graph(self) -> ir.Model:
        """Returns a fresh copy of the model in onnx-ir, which the caller may rewrite.

        Its nodes are in an order in which they can be computed. External tensors know their folder and are not opened.
        """
        model = graph.read(self.graph_bytes)
        if self.data_folder is not None:
            ir.external_data.set_base_dir(model.graph, self.data_folder)
        return model

    @property
    def hook_points(self) -> tuple[HookPoint, ...]:
        """Every value and unused output slot of the main graph, in the order of computation; listed once."""
        with self._lock:
            return self._hook_points

    @functools.cached_property
    def _hook_points(self) -> tuple[HookPoint, ...]:
        types = self.typed({})
        points = hook_points.listed(graph.read(self.graph_bytes), types, overridable=self._overridable)
        return slots.inserted(points, self.slots, types)

    def points(self, *, expand: bool) -> tuple[HookPoint, ...]:
        """Returns the hook points, and with `expand` the parts of operators too, in the order of computation."""
        points = self.hook_points
        if not expand:
            return points
        with self._lock:
            return self._expanded_points

    @functools.cached_property
    def _expanded_points(self) -> tuple[HookPoint, ...]:
        return parts.inserted(self._hook_points, self._expansions, self.typed({}, expand=True))

    @functools.cached_property
    def _expansions(self) -> tuple[Expansion, ...]:
        dependent = {point.address for point in self._hook_points if point.depth > 0 or point.kind is Kind.INPUT}
        return parts.listed(graph.parse(self.graph_bytes), self.typed({}), dependent)

    @functools.cached_property
    def parts(self) -> Mapping[str, Expansion]:
        """What each part of an operator belongs to, by the part's address."""
        self.points(expand=True)
        return MappingProxyType({part.address: item for item in self._expansions for part in item.parts})

    @functools.cached_property
    def slots(self) -> Mapping[str, Slot]:
        """The main graph's unused output slots, by address."""
        return MappingProxyType(slots.listed(graph.parse(self.graph_bytes)))

    def typed(self, input_shapes: Mapping[str, tuple[int, ...]], *, expand: bool = False) -> Mapping[str, ValueType]:
        """Infers the types of the main graph's values and unused slots, without running it or opening the weights.

        Args:
            input_shapes: number of elements along every axis, by input; inputs that are not named stay as declared.
            expand: the parts of operators too.

        Returns:
            Types by value name; values of which nothing is known are left out.
        """
        key = (frozenset(input_shapes.items()), expand)
        with self._typed_lock:
            found = self._typed.get(key)
        if found is None:
            proto = graph.parse(self.graph_bytes)
            slots.fill(proto, self.slots)
            if expand:
                proto.graph.node.extend(node for item in self._expansions for node in item.nodes)
            types = inference.types(proto, input_shapes)
            if expand:
                types |= parts.types(self._expansions, types)
            found = MappingProxyType(types)
        with self._typed_lock:
            self._typed[key] = found
            self._typed.move_to_end(key)
            while len(self._typed) > _SHAPES_KEPT:
                self._typed.popitem(last=False)
        return found

    @functools.cached_property
    def node_names(self) -> frozenset[str]:
        """Names of the main graph's nodes."""
        return frozenset(node.name for node in graph.parse(self.graph_bytes).graph.node if node.name)


def _spec(info: onnx.ValueInfoProto) -> ValueSpec:
    return ValueSpec(info.name, value_type(info.type))
