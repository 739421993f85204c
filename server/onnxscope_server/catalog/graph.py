"""The boundary to onnx-ir: bytes to `ir.Model` and back, with nothing lost on the way.

onnx-ir has no place for sparse initializers and drops them, raises on map types, on sparse attributes and on text that
is not UTF-8, and looks at every number of a long list: minutes for a forest of trees. They cross in disguise: `read`
puts each where onnx-ir carries it without looking (the location of an external tensor, the value of a string attribute,
the metadata of a value), and `write` puts it back. The disguise lies in the graph itself, so it survives clones, passes
and cuts.

    sparse_initializer w            external tensor w, location "onnxscope:sparse:..."
    attribute sparse_value          string attribute sparse_value, "onnxscope:attribute:..."
    attribute nodes_values          the same, from _LONG numbers or texts on
    type map(int64, float)          no type; metadata "onnxscope:type"
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable

import onnx
import onnx_ir as ir

from onnxscope_server.catalog import distinct_names
from onnxscope_server.catalog.appearance import describe
from onnxscope_server.catalog.text import mend
from onnxscope_server.catalog.walk import bodies, graphs, nodes
from onnxscope_server.errors import ModelInvalidError

_SPARSE = "onnxscope:sparse:"
_ATTRIBUTE = "onnxscope:attribute:"
_TYPE = "onnxscope:type"
_LONG = 1000
_DATA_TYPES = frozenset(onnx.TensorProto.DataType.values())
_TYPE_ATTRIBUTES = (onnx.AttributeProto.TYPE_PROTO, onnx.AttributeProto.TYPE_PROTOS)
_FOREIGN_ATTRIBUTES = (
    onnx.AttributeProto.SPARSE_TENSOR,
    onnx.AttributeProto.SPARSE_TENSORS,
    onnx.AttributeProto.UNDEFINED,
)


def parse(data: bytes) -> onnx.ModelProto:
    """Parses a serialised model.

    Raises:
        ModelInvalidError: the bytes are something else; the text says what they look like.
    """
    try:
        proto = onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf's DecodeError; catalog doesn't import protobuf
        raise _invalid(data) from error
    if not proto.HasField("graph") or not (proto.ir_version or proto.opset_import):
        raise _invalid(data)
    return proto


def _invalid(data: bytes) -> ModelInvalidError:
    text = describe(data)
    return ModelInvalidError(f"{text}. Give an ONNX model: a .onnx file.", detail=text)


def read(data: bytes) -> ir.Model:
    """Parses a model into onnx-ir, its nodes in an order in which they can be computed.

    External data is not opened.

    Args:
        data: a serialised ModelProto.

    Returns:
        A model that the caller owns.

    Raises:
        ModelInvalidError: the bytes are no ONNX model, or its graph contradicts itself.
    """
    return from_proto(parse(data))


def disguised(model: ir.Model) -> bytes:
    """Serialises a model for `from_disguised`, which takes less time than `read`."""
    data: bytes = ir.to_proto(model).SerializeToString()
    return data


def from_disguised(data: bytes) -> ir.Model:
    """Returns a fresh copy of a model that `disguised` serialised."""
    return ir.from_proto(onnx.ModelProto.FromString(data))


def from_proto(proto: onnx.ModelProto) -> ir.Model:
    """Does what `read` does for a parsed model; the proto is used up.

    Raises:
        ModelInvalidError: the graph contradicts itself.
    """
    _disguise(proto)
    try:
        model = ir.from_proto(proto)
        if not in_order(proto.graph):
            model.graph.sort()
        for function in model.functions.values():
            function.sort()
    except (ir.serde.SerdeError, AssertionError, ValueError, TypeError, RecursionError) as error:
        detail = str(error.__cause__ or error).split("\n", 1)[0]
        raise ModelInvalidError(f"The model contradicts itself: {detail}", detail=detail) from error
    return model


def write(model: ir.Model) -> bytes:
    """Serialises a model; what onnx-ir does not know is put back, and values in bodies get names of their own.

    Args:
        model: what `read` gave, rewritten as you like.

    Returns:
        A serialised ModelProto.

    Raises:
        ModelInvalidError: it takes more than 2 GiB, or holds what no file can.
    """
    return serialised(to_proto(model))


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """Does what `write` does, without the last step.

    Raises:
        ModelInvalidError: the model holds what no file can.
    """
    try:
        proto = ir.to_proto(model)
    except (ir.serde.SerdeError, TypeError, ValueError) as error:
        detail = str(error.__cause__ or error).split("\n", 1)[0]
        raise ModelInvalidError(f"The model contradicts itself: {detail}", detail=detail) from error
    _undisguise(proto)
    distinct_names.give(proto)
    return proto


def serialised(proto: onnx.ModelProto) -> bytes:
    """Returns the bytes of a model.

    Raises:
        ModelInvalidError: it takes more than 2 GiB.
    """
    try:
        data: bytes = proto.SerializeToString()
    except ValueError as error:
        detail = "the graph takes more than 2 GiB, which protobuf cannot hold"
        raise ModelInvalidError(f"{detail}: store its weights as external data.", detail=detail) from error
    return data


def is_sparse(value: ir.Value) -> bool:
    """Tells whether a value is a sparse initializer."""
    tensor = value.const_value
    return isinstance(tensor, ir.ExternalTensor) and str(tensor.location).startswith(_SPARSE)


def in_order(graph: onnx.GraphProto) -> bool:
    """Tells whether every node comes after those that it reads, in bodies too."""
    made = {name for node in graph.node for name in node.output}
    return _ordered(graph, made)


def _ordered(graph: onnx.GraphProto, pending: set[str]) -> bool:
    """Walks nodes in file order; `pending` are names that some later node makes."""
    for node in graph.node:
        if any(name in pending for name in node.input if name):
            return False
        for body in bodies([node]):
            own = {name for inner in body.node for name in inner.output}
            hidden = own | {item.name for item in body.input} | {item.name for item in body.initializer}
            if not _ordered(body, (pending - hidden) | own):
                return False
        pending.difference_update(node.output)
    return True


def _disguise(proto: onnx.ModelProto) -> None:
    mend(proto)
    for graph in graphs(proto):
        for sparse in graph.sparse_initializer:
            stand_in = graph.initializer.add(
                name=sparse.values.name,
                data_type=sparse.values.data_type,
                dims=sparse.dims,
                data_location=onnx.TensorProto.EXTERNAL,
            )
            stand_in.external_data.add(key="location", value=_SPARSE + _pack(sparse.SerializeToString()))
        del graph.sparse_initializer[:]
        _type_passed_on(graph)
        for info in (*graph.input, *graph.output, *graph.value_info):
            if not _fits(info.type):
                info.metadata_props.add(key=_TYPE, value=_pack(info.type.SerializeToString()))
                info.ClearField("type")
    for node in nodes(proto):
        _disguise_attributes(node.attribute)
    for function in proto.functions:
        _disguise_attributes(function.attribute_proto)


def _type_passed_on(graph: onnx.GraphProto) -> None:
    """Types outputs that are inputs or initializers: onnx-ir has one value for both, and the last type said wins."""
    types = {info.name: info.type for info in graph.input if info.HasField("type")}
    for tensor in graph.initializer:
        if tensor.name not in types:
            types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
    for info in graph.output:
        if not info.HasField("type") and info.name in types:
            info.type.CopyFrom(types[info.name])


def _disguise_attributes(attributes: Iterable[onnx.AttributeProto]) -> None:
    for attribute in attributes:
        if attribute.ref_attr_name or _carried(attribute):
            continue
        packed = _ATTRIBUTE + _pack(attribute.SerializeToString())
        name = attribute.name
        attribute.Clear()
        attribute.name = name
        attribute.type = onnx.AttributeProto.STRING
        attribute.s = packed.encode()


def _carried(attribute: onnx.AttributeProto) -> bool:
    if (
        attribute.type in _FOREIGN_ATTRIBUTES
        or max(len(attribute.ints), len(attribute.floats), len(attribute.strings)) >= _LONG
    ):
        return False
    if attribute.type in _TYPE_ATTRIBUTES:
        types = [attribute.tp] if attribute.HasField("tp") else attribute.type_protos
        return all(_fits(declared) for declared in types)
    return all(_is_text(item) for item in (attribute.s, *attribute.strings))


def _is_text(item: bytes) -> bool:
    try:
        item.decode()
    except UnicodeDecodeError:
        return False
    return True


def _fits(declared: onnx.TypeProto) -> bool:
    """Tells whether onnx-ir can hold a type: no map in it, no element left open."""
    which = declared.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        return getattr(declared, which).elem_type in _DATA_TYPES
    if which in ("sequence_type", "optional_type"):
        inner = getattr(declared, which).elem_type
        return inner.WhichOneof("value") is not None and _fits(inner)
    return which is None


def _undisguise(proto: onnx.ModelProto) -> None:
    for graph in graphs(proto):
        _restore_sparse(graph)
        for info in (*graph.input, *graph.output, *graph.value_info):
            for index, entry in enumerate(info.metadata_props):
                if entry.key == _TYPE:
                    info.type.ParseFromString(_unpack(entry.value))
                    del info.metadata_props[index]
                    break
    for node in nodes(proto):
        _restore_attributes(node.attribute)
    for function in proto.functions:
        _restore_attributes(function.attribute_proto)


def _restore_sparse(graph: onnx.GraphProto) -> None:
    sparse_names = set()
    for index in reversed(range(len(graph.initializer))):
        tensor = graph.initializer[index]
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        if location.startswith(_SPARSE):
            sparse = graph.sparse_initializer.add()
            sparse.ParseFromString(_unpack(location.removeprefix(_SPARSE)))
            sparse.values.name = tensor.name
            sparse_names.add(tensor.name)
            del graph.initializer[index]
    if sparse_names:
        # onnx-ir writes a dense value_info for every initializer; the sparse ones had none
        kept = [info for info in graph.value_info if info.name not in sparse_names]
        del graph.value_info[:]
        graph.value_info.extend(kept)
        graph.sparse_initializer.reverse()


def _restore_attributes(attributes: Iterable[onnx.AttributeProto]) -> None:
    for attribute in attributes:
        if attribute.s.startswith(_ATTRIBUTE.encode()):
            name = attribute.name
            attribute.ParseFromString(_unpack(attribute.s.decode().removeprefix(_ATTRIBUTE)))
            attribute.name = name


def _pack(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unpack(text: str) -> bytes:
    return base64.b64decode(text)


# it warns of invalid models in words that the caller of a server never sees
logging.getLogger("onnx_ir").setLevel(logging.ERROR)
