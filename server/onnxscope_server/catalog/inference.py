"""Types of a model's values, as far as they can be known without running it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

import onnx
import onnx.shape_inference

from onnxscope_server.catalog import distinct_names, graph
from onnxscope_server.catalog.scopes import (
    OWN_DOMAINS,
    FunctionKey,
    Path,
    Place,
    Step,
    anchor_of,
    called,
    control_flow,
    functions,
)
from onnxscope_server.catalog.value_types import tensor_type, type_proto, value_type
from onnxscope_server.catalog.walk import bodies, every_node, nodes
from onnxscope_server.domain import Dimension, TensorType, ValueType

_logger = logging.getLogger(__name__)
# ONNX's inference of these ends the process where it knows no type of their first input
_FRAGILE = {
    "EyeLike": "",
    "RegexFullMatch": "",
    "DictVectorizer": "ai.onnx.ml",
    "LabelEncoder": "ai.onnx.ml",
    "TreeEnsemble": "ai.onnx.ml",
}
_NOT_ASKED = "onnxscope.not.asked"
_INFERRED_DOMAINS = ("", "ai.onnx.ml")


def types(
    proto: onnx.ModelProto,
    input_shapes: Mapping[str, tuple[int, ...]],
    known: Mapping[Place, ValueType] = MappingProxyType({}),
) -> dict[Place, ValueType]:
    """Infers the types of the values of the main graph, of bodies and of functions.

    Args:
        proto: the model, each call with a function of its own; it is used up.
        input_shapes: number of elements along every axis, by input. Inputs that are not named stay as declared.
        known: types of values that ONNX's inference does not find.

    Returns:
        Types by place, of one iteration where there are several; values of which nothing is known are left out. It
        never fails: where inference does, the declared types remain.
    """
    _shorten_domain(proto)
    old = distinct_names.give(proto)
    if not graph.in_order(proto.graph):
        proto = _sorted(proto)
    telling = _Telling(known, old)
    telling.tell(proto.graph, ())
    on_top = {place.name: type_ for place, type_ in known.items() if not place.path}
    inferable = _inferable(proto) - on_top.keys()
    if input_shapes:
        _bind(proto, input_shapes, inferable)
    stated = _set_aside(proto, inferable)
    found = dict(on_top)
    inferred = _infer(proto)
    for candidate in (proto, inferred):
        if candidate is not None:
            found.update(_declared(candidate.graph))
    for name, shape in stated.items():
        found[name] = _completed(found.get(name), shape)
    places = {Place((), name): type_ for name, type_ in found.items()}
    places |= _inside((inferred or proto).graph.node, found, proto, telling)
    return {_renamed(place, old): type_ for place, type_ in places.items()} if old else places


def _shorten_domain(proto: onnx.ModelProto) -> None:
    """Writes ONNX's own domain as the empty one: of its other name, inference does not know the operators' bodies."""
    for item in (*proto.opset_import, *(item for function in proto.functions for item in function.opset_import)):
        item.domain = "" if item.domain in OWN_DOMAINS else item.domain
    for node in nodes(proto):
        node.domain = "" if node.domain in OWN_DOMAINS else node.domain


def _renamed(place: Place, names: Mapping[str, str]) -> Place:
    steps = (replace(step, anchor=names.get(step.anchor, step.anchor)) for step in place.path)
    return Place(tuple(steps), names.get(place.name, place.name))


def _inside(
    nodes: Iterable[onnx.NodeProto], visible: Mapping[str, ValueType], proto: onnx.ModelProto, telling: _Telling
) -> dict[Place, ValueType]:
    """Types what is in the bodies of nodes, which were inferred, and in functions that they call, which were not."""
    places: dict[Place, ValueType] = {}
    local = functions(proto)
    waiting: list[tuple[Iterable[onnx.NodeProto], Path, Mapping[str, ValueType]]] = [(tuple(nodes), (), visible)]
    while waiting:
        nodes, path, visible = waiting.pop()
        for node in nodes:
            anchor = anchor_of(node)
            if not anchor:
                continue
            for where, body in control_flow(node):
                own = dict(_declared(body))
                below = (*path, Step(anchor, where, node.op_type))
                waiting.append((tuple(body.node), below, {**visible, **own}))
                places |= {Place(below, name): type_ for name, type_ in own.items()}
            if called(node) in local:
                alone = _alone(local[called(node)], [visible.get(name) for name in node.input], proto, local)
                below = (*path, Step(anchor, node.op_type, ""))
                telling.tell(alone.graph, below)
                inferred = _infer(alone) or alone
                own = dict(_declared(inferred.graph))
                waiting.append((tuple(inferred.graph.node), below, own))
                places |= {Place(below, name): type_ for name, type_ in own.items()}
    return places


def _alone(
    function: onnx.FunctionProto,
    inputs: Iterable[ValueType | None],
    proto: onnx.ModelProto,
    local: Mapping[FunctionKey, onnx.FunctionProto],
) -> onnx.ModelProto:
    """Makes a model of a function and of those that it needs, its inputs of the types that a call has."""
    alone = onnx.ModelProto(ir_version=proto.ir_version, opset_import=function.opset_import)
    alone.graph.name = function.name
    alone.graph.node.extend(function.node)
    for name, type_ in itertools.zip_longest(function.input, inputs):
        if name:
            alone.graph.input.add(name=name, type=type_proto(type_))
    alone.graph.output.extend(onnx.ValueInfoProto(name=name) for name in function.output)
    needed: dict[FunctionKey, onnx.FunctionProto] = {}
    waiting = [function]
    while waiting:
        for node in every_node(waiting.pop().node):
            key = called(node)
            if key in local and key not in needed:
                needed[key] = local[key]
                waiting.append(local[key])
    alone.functions.extend(needed.values())
    return alone


def _sorted(proto: onnx.ModelProto) -> onnx.ModelProto:
    return graph.parse(graph.write(graph.from_proto(proto)))


def _infer(proto: onnx.ModelProto) -> onnx.ModelProto | None:
    """Infers what can be inferred, step by step where an operator must not be asked before its input is known."""
    fragile = [node for node in nodes(proto) if _FRAGILE.get(node.op_type) == node.domain]
    if not fragile:
        return _inferred(proto)
    for node in fragile:
        node.domain = _NOT_ASKED
    proto.opset_import.add(domain=_NOT_ASKED, version=1)
    for function in proto.functions:
        function.opset_import.add(domain=_NOT_ASKED, version=1)
    # those of functions stay as they are: each call's function is inferred as a model of its own
    waiting = [node for node in every_node(proto.graph.node) if node.domain == _NOT_ASKED]
    while True:
        inferred = _inferred(proto)
        typed = _typed_names(inferred or proto)
        ready = [node for node in waiting if not node.input or node.input[0] in typed]
        if inferred is None or not ready:
            return inferred
        for node in ready:
            node.domain = _FRAGILE[node.op_type]
        waiting = [node for node in waiting if node.domain == _NOT_ASKED]


def _typed_names(proto: onnx.ModelProto) -> set[str]:
    """Returns names that have a type in every graph that has a value of that name."""
    typed: set[str] = set()
    untyped: set[str] = set()
    for holder in (proto.graph, *(body for node in every_node(proto.graph.node) for body in bodies([node]))):
        declared = {name for name, _ in _declared(holder)}
        typed |= declared
        untyped |= {name for node in holder.node for name in node.output} - declared
        untyped |= {info.name for info in holder.input} - declared
    return typed - untyped


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto | None:
    for data_prop in (True, False):
        try:
            return onnx.shape_inference.infer_shapes(proto, data_prop=data_prop)
        except Exception as error:  # noqa: BLE001 -- it raises what its C++ side throws; declared types remain
            _logger.debug("shape inference (data_prop=%s) failed: %s", data_prop, error)
    return None


def _declared(main: onnx.GraphProto) -> Iterable[tuple[str, ValueType]]:
    for tensor in main.initializer:
        known = tensor_type(tensor)
        if known is not None:
            yield tensor.name, known
    for sparse in main.sparse_initializer:
        sparse.values.dims[:] = sparse.dims
        known = tensor_type(sparse.values)
        if known is not None:
            yield sparse.values.name, known
    for info in (*main.input, *main.value_info, *main.output):
        declared = value_type(info.type)
        if declared is not None:
            yield info.name, declared


class _Telling:
    """States types that the file doesn't, for inference to go on from.

    Args:
        known: types by place.
        old: what the places call values that have other names now.
    """

    def __init__(self, known: Mapping[Place, ValueType], old: Mapping[str, str]) -> None:
        self._old = old
        self._known: dict[Path, dict[str, ValueType]] = {}
        for place, type_ in known.items():
            self._known.setdefault(place.path, {})[place.name] = type_

    def tell(self, holder: onnx.GraphProto, path: Path) -> None:
        """States types in a graph and in the bodies in it."""
        if not self._known:
            return
        known = self._known.get(_renamed(Place(path, ""), self._old).path, {})
        there = {info.name: info for info in (*holder.value_info, *holder.output)}
        for name in [name for node in holder.node for name in node.output if name] if known else ():
            type_ = known.get(self._old.get(name, name))
            if isinstance(type_, TensorType):
                (there.get(name) or holder.value_info.add(name=name)).type.CopyFrom(type_proto(type_))
        for node in holder.node:
            for where, body in control_flow(node):
                self.tell(body, (*path, Step(anchor_of(node), where, node.op_type)))


def _bind(proto: onnx.ModelProto, input_shapes: Mapping[str, tuple[int, ...]], inferable: Collection[str]) -> None:
    """Fixes the inputs' shapes and drops declared shapes that inference finds again, so that it finds numbers."""
    main = proto.graph
    symbols: dict[str, int] = {}
    for info in main.input:
        shape = input_shapes.get(info.name)
        if shape is None or info.type.WhichOneof("value") != "tensor_type":
            continue
        declared = info.type.tensor_type.shape.dim
        if info.type.tensor_type.HasField("shape") and len(declared) == len(shape):
            symbols |= {item.dim_param: size for item, size in zip(declared, shape, strict=True) if item.dim_param}
        info.type.tensor_type.shape.Clear()
        for size in shape:
            info.type.tensor_type.shape.dim.add(dim_value=size)
    for info in main.input:
        _substitute(info.type, symbols)
    for body in bodies(main.node):
        _substitute_inside(body, symbols)
    kept = [info for info in main.value_info if info.name not in inferable]
    for info in kept:
        _substitute(info.type, symbols)
    del main.value_info[:]
    main.value_info.extend(kept)
    for info in main.output:
        if info.name in inferable and info.type.WhichOneof("value") == "tensor_type":
            info.type.tensor_type.ClearField("shape")
        else:
            _substitute(info.type, symbols)


def _set_aside(proto: onnx.ModelProto, inferable: Collection[str]) -> dict[str, TensorType]:
    """Takes the shapes away that inference may find by itself: many a stated one does not hold.

    Exporters fix sizes of outputs whose inputs they leave open, and who opens an input's size later leaves the rest.
    """
    stated = {}
    for info in (*proto.graph.value_info, *proto.graph.output):
        declared = value_type(info.type)
        if info.name in inferable and isinstance(declared, TensorType) and declared.shape is not None:
            stated[info.name] = declared
            info.type.tensor_type.ClearField("shape")
    return stated


def _completed(found: ValueType | None, stated: TensorType) -> ValueType:
    """Returns what was inferred, completed by what the file states where the two don't contradict each other."""
    if not isinstance(found, TensorType) or found.shape is None or stated.shape is None:
        return stated
    if len(found.shape) != len(stated.shape):
        return found
    sizes = (_extent(*pair) for pair in zip(found.shape, stated.shape, strict=True))
    return replace(found, shape=tuple(sizes))


def _extent(found: Dimension, stated: Dimension) -> Dimension:
    """Returns the size that was inferred; a stated symbol is as good as an inferred one, and better than none."""
    if found is None or (isinstance(found, str) and isinstance(stated, str)):
        return stated
    return found


def _inferable(proto: onnx.ModelProto) -> set[str]:
    """Names of the values whose types inference finds by itself: made by ONNX's own operators or local functions."""
    local = {(function.domain, function.name) for function in proto.functions}
    return {
        name
        for node in proto.graph.node
        if node.domain in _INFERRED_DOMAINS or (node.domain, node.op_type) in local
        for name in node.output
    }


def _substitute_inside(body: onnx.GraphProto, symbols: Mapping[str, int]) -> None:
    for info in (*body.input, *body.output, *body.value_info):
        _substitute(info.type, symbols)
    for inner in bodies(body.node):
        _substitute_inside(inner, symbols)


def _substitute(declared: onnx.TypeProto, symbols: Mapping[str, int]) -> None:
    if declared.WhichOneof("value") == "tensor_type":
        for item in declared.tensor_type.shape.dim:
            if item.dim_param in symbols:
                item.dim_value = symbols[item.dim_param]
