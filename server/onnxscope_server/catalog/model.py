"""A model of the catalog: what it is made of and what is in it, parsed once, never changed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import onnx
import onnx_ir as ir

from onnxscope_server.catalog import fatal, functions, graph, own_functions, scopes, steady, text
from onnxscope_server.catalog.contents import Contents
from onnxscope_server.catalog.description import HookPoint, ValueSpec
from onnxscope_server.catalog.runtime import Runtime
from onnxscope_server.catalog.value_types import value_type
from onnxscope_server.domain import ValueType

_OVERRIDABLE_IR_VERSION = 4


class CatalogModel:
    """A model: its bytes and what they say. Immutable and safe to share between threads.

    Args:
        digest: of the model file and its external data.
        byte_count: of the model file and its external data.
        graph_bytes: a serialised ModelProto; large weights are best external.
        data_folder: where the external data lies; None where there is none.
        runtime: tells what ONNX's own definitions don't: types, and which functions it has operators for.

    Attributes:
        digest: of the model file and its external data.
        byte_count: of the model file and its external data.
        graph_bytes: the serialised ModelProto.
        data_folder: where the external data lies; None where there is none.
        inputs: what a caller must give, in the model's order.
        optional_inputs: inputs that have a default, an initializer of the same name.
        outputs: what the model declares, in its order.
        node_count: nodes of the main graph.
        contents: the hook points, where they are, and types.

    Raises:
        ModelInvalidError: the bytes are no ONNX model.
    """

    def __init__(
        self,
        *,
        digest: str,
        byte_count: int,
        graph_bytes: bytes,
        data_folder: Path | None,
        runtime: Runtime | None = None,
    ) -> None:
        proto = graph.parse(graph_bytes)
        text.check(proto)
        functions.check_expansion(proto)
        if fatal.mend(proto):
            graph_bytes = proto.SerializeToString()
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
        self.optional_inputs = (
            tuple(_spec(item) for item in proto.graph.input if item.name in defaults) if overridable else ()
        )
        types = {info.name: value_type(info.type) for info in proto.graph.value_info}
        self.outputs = tuple(
            ValueSpec(item.name, value_type(item.type) or types.get(item.name)) for item in proto.graph.output
        )
        self._is_suspect = fatal.is_suspect(proto)
        self._called = functions.without_operators(proto, runtime) or graph_bytes
        self.contents = Contents(self._called, data_folder, overridable=overridable, runtime=runtime)

    @classmethod
    def from_bytes(cls, data: bytes, folder: Path | None = None, runtime: Runtime | None = None) -> CatalogModel:
        """Makes a model from the bytes of a model file, without a catalog.

        Args:
            data: a serialised ModelProto.
            folder: where its external data lies.
            runtime: as for the constructor.

        Returns:
            The model; its digest is that of the file alone.

        Raises:
            ModelInvalidError: the bytes are no ONNX model.
        """
        digest = hashlib.sha256(data).hexdigest()
        return cls(digest=digest, byte_count=len(data), graph_bytes=data, data_folder=folder, runtime=runtime)

    @functools.cached_property
    def is_steady(self) -> bool:
        """Whether shapes of inputs, and not their values, say how much it computes."""
        return steady.is_steady(graph.parse(self._called))

    def check(self) -> None:
        """Checks that the model does not end the process that runs it.

        Raises:
            ModelInvalidError: onnxruntime would crash.
        """
        if self._is_suspect:
            fatal.check(graph.parse(self._called), self.contents)

    def graph(self, paths: Collection[scopes.Path] = ()) -> ir.Model:
        """Returns a fresh copy of the model in onnx-ir, which the caller may rewrite.

        Its nodes are in an order in which they can be computed. External tensors know their folder and are not opened.

        Args:
            paths: to graphs whose values are wanted: each call on the way there has a function of its own.
        """
        if paths:
            proto = graph.parse(self._called)
            ways = {path[:depth] for path in paths for depth in range(1, len(path) + 1)}
            own_functions.give(proto, ways.__contains__)
            model = graph.from_proto(proto)
        else:
            model = graph.from_disguised(self._disguised)
        if self.data_folder is not None:
            ir.external_data.set_base_dir(model.graph, self.data_folder)
        return model

    @functools.cached_property
    def _disguised(self) -> bytes:
        return graph.disguised(graph.read(self._called))

    @property
    def hook_points(self) -> tuple[HookPoint, ...]:
        """Every value and unused output slot, in the order of computation; listed once."""
        return self.contents.points(expand=False)

    def points(self, *, expand: bool) -> tuple[HookPoint, ...]:
        """Returns the hook points, and with `expand` the parts of operators too, in the order of computation."""
        return self.contents.points(expand=expand)

    def typed(self, input_shapes: Mapping[str, tuple[int, ...]], *, expand: bool = False) -> Mapping[str, ValueType]:
        """Infers the types of what hook points hold, without running the model or opening the weights.

        Args:
            input_shapes: number of elements along every axis, by input; inputs that are not named stay as declared.
            expand: the parts of operators too.

        Returns:
            Types by address; hook points of which nothing is known are left out.
        """
        return self.contents.typed_activations(input_shapes, expand=expand)


def _spec(info: onnx.ValueInfoProto) -> ValueSpec:
    return ValueSpec(info.name, value_type(info.type))
