"""Follows rows through a graph, node by node, into functions and branches."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import onnx

from onnxscope_server.catalog.scopes import BRANCHING, OWN_DOMAINS, REPEATING, called, functions, imported
from onnxscope_server.catalog.walk import bodies, every_node, nodes
from onnxscope_server.domain import Array
from onnxscope_server.rewrite.rows.facts import Count, Facts, MixedRowsError
from onnxscope_server.rewrite.rows.node import Node, Placed
from onnxscope_server.rewrite.rows.node_types import inferred
from onnxscope_server.rewrite.rows.rules import RULES
from onnxscope_server.rewrite.rows.small import LARGEST, computed

_MOST_NODES = 100_000
_OPERATORS = ("", "ai.onnx.ml", "com.microsoft")
_RANDOM = frozenset("Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split())  # noqa: SIM905  # easier to read
# of these more is known than ONNX's inference tells, whatever they are asked
_OF_SHAPES = frozenset({("", "Shape"), ("", "Size")})
# these may have rows though no input has
_OF_COUNTS = frozenset({*_OF_SHAPES, ("", "ConstantOfShape"), ("", "Expand"), ("", "Tile")})
# None: an input of a function that its caller leaves out
_Values: TypeAlias = MutableMapping[str, Facts | None]


@dataclass(frozen=True, slots=True)
class _Around:
    """What holds in a graph or function: versions of domains, and the attributes that its caller gave."""

    imports: Mapping[str, int]
    attributes: Mapping[str, onnx.AttributeProto] = field(default_factory=dict)


class Walk:
    """Follows rows through the nodes of one model.

    Args:
        proto: the model, its nodes in an order in which they can be computed.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto
        self._functions = functions(proto)
        self._left = _MOST_NODES

    def facts(self, inputs: Mapping[str, Facts]) -> Mapping[str, Facts | None]:
        """Returns what is known of every value of the main graph.

        Args:
            inputs: what is known of those inputs that callers give.

        Raises:
            MixedRowsError: some value is not made of rows that are computed each on its own.
        """
        for node in nodes(self._proto):
            if node.op_type in _RANDOM:
                raise MixedRowsError(f"{node.op_type} {node.name!r} draws random numbers")
        values: _Values = dict(inputs)
        _add_weights(self._proto.graph, values)
        self._run(self._proto.graph.node, values, _Around(imported(self._proto)))
        return values

    def _run(self, listed: Iterable[onnx.NodeProto], values: _Values, around: _Around) -> None:
        for proto in listed:
            self._left -= 1
            if self._left < 0:
                raise MixedRowsError(f"it has more than {_MOST_NODES:,} nodes with its functions in place")
            node = _resolved(proto, around.attributes)
            missing = next((name for name in node.input if name and name not in values), None)
            if missing is not None:
                raise MixedRowsError(f"nothing is known of {missing!r}")
            inputs = [values[name] if name else None for name in node.input]
            values.update(zip(node.output, self._outputs(node, inputs, values, around), strict=False))

    def _outputs(
        self, node: onnx.NodeProto, inputs: Sequence[Facts | None], values: _Values, around: _Around
    ) -> Sequence[Facts]:
        key = ("" if node.domain in OWN_DOMAINS else node.domain, node.op_type)
        view = Node(node, around.imports.get(key[0], 0), inputs)
        function = self._functions.get(called(node))
        if function is not None:
            return self._called(view, function)
        if key[0] == "" and node.op_type in BRANCHING:
            return self._branched(view, values, around)
        if key[0] == "" and node.op_type in REPEATING:
            return _repeated(view, values)
        return [_constant(view)] if key == ("", "Constant") else _operated(view, key, around.imports)

    def _called(self, node: Node, function: onnx.FunctionProto) -> list[Facts]:
        if function.domain in (*_OPERATORS, *OWN_DOMAINS):
            raise node.mixes("may be the function of that name or onnxruntime's own operator")
        values: _Values = dict.fromkeys(function.input)
        values.update(zip(function.input, node.inputs, strict=False))
        attributes = {item.name: item for item in (*function.attribute_proto, *node.proto.attribute)}
        self._run(function.node, values, _Around(imported(function), attributes))
        return _of_outputs(node, values, function.output)

    def _branched(self, node: Node, values: _Values, around: _Around) -> list[Facts]:
        condition = node.fixed(0)
        wanted = ["then_branch", "else_branch"]
        if condition is not None and condition.content is not None:
            wanted = wanted[:1] if condition.content.all() else wanted[1:]
        results = []
        for name in wanted:
            body = node.attribute(name)
            inner: _Values = ChainMap({}, values)
            _add_weights(body, inner)
            self._run(body.node, inner, around)
            results.append(_of_outputs(node, inner, [item.name for item in body.output]))
        return results[0] if len(results) == 1 else [_either(node, *pair) for pair in zip(*results, strict=True)]


def _operated(node: Node, key: tuple[str, str], imports: Mapping[str, int]) -> Sequence[Facts]:
    """Returns what is known of what an operator makes, by its rule where rows or their number come in."""
    types = inferred(node.proto, imports, node.inputs)
    contents = computed(node) if key[0] == "" else None
    if contents is not None:
        return [_small(item, type_) for item, type_ in zip(contents, types, strict=True)]
    given = [item for item in node.inputs if item is not None]
    all_fixed = all(item.is_fixed for item in given)
    if all_fixed and key not in _OF_SHAPES:
        return types
    if not (all_fixed or key in _OF_COUNTS or any(item.has_rows for item in given)):
        raise node.mixes("computes with the number of rows")
    rule = RULES.get(key)
    if rule is None:
        raise node.mixes("is not known to compute each row on its own")
    try:
        placed = rule(node)
    except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        # what onnxruntime would refuse too, or what the checks of its load have let pass
        raise node.mixes("has inputs or attributes that don't fit each other") from error
    return [_completed(node, *pair) for pair in zip(placed, types, strict=False)]


def _of_outputs(node: Node, values: _Values, names: Iterable[str]) -> list[Facts]:
    found = [values[name] for name in names]
    if any(item is None for item in found):
        raise node.mixes("passes on an input that is left out")
    return [item for item in found if item is not None]


def _either(node: Node, one: Facts, other: Facts) -> Facts:
    """Returns what is known of a value that comes from one of two branches."""
    if one.rows != other.rows or not (one.has_rows or (one.is_fixed and other.is_fixed)):
        raise node.mixes("has branches of which one gives rows and the other does not")
    if one.has_rows and one.rank != other.rank:
        raise node.mixes("has branches that give rows of different rank")
    data_type = one.data_type if one.data_type == other.data_type else None
    if one.shape is None or other.shape is None or one.rank != other.rank:
        return Facts(data_type, None)
    sizes = (left if left == right else None for left, right in zip(one.shape, other.shape, strict=True))
    return Facts(data_type, tuple(sizes), one.axis)


def _repeated(node: Node, values: _Values) -> list[Facts]:
    """A body that runs again and again may not see rows: what it keeps from one time to the next is not followed."""
    seen = set(node.proto.input)
    for body in bodies([node.proto]):
        seen |= {name for inner in every_node(body.node) for name in inner.input}
        seen |= {item.name for item in body.output}
    facts = (values[name] for name in seen if name in values)
    if not all(item is None or item.is_fixed for item in facts):
        raise node.mixes("runs a body on rows again and again")
    return [Facts(None, None)] * len(node.proto.output)


def _completed(node: Node, placed: Placed, type_: Facts) -> Facts:
    if placed is None:
        return type_
    if isinstance(placed, Facts):
        data_type = type_.data_type if placed.data_type is None else placed.data_type
        return replace(placed, data_type=data_type)
    if type_.shape is None or placed.axis >= len(type_.shape):
        raise node.mixes("has an output whose shape is not known before it runs")
    sizes = list(type_.shape)
    sizes[placed.axis] = Count(placed.per_row)
    return Facts(type_.data_type, tuple(sizes), placed.axis)


def _small(content: Array, type_: Facts) -> Facts:
    data_type = type_.data_type
    if data_type is None and content.dtype != object:
        data_type = onnx.helper.np_dtype_to_tensor_dtype(content.dtype)
    return Facts(data_type, content.shape, content=content)


def _add_weights(main: onnx.GraphProto, values: _Values) -> None:
    for tensor in main.initializer:
        if tensor.name not in values or isinstance(values, ChainMap):
            values[tensor.name] = _of_tensor(tensor)
    for sparse in main.sparse_initializer:
        values[sparse.values.name] = Facts(sparse.values.data_type, tuple(sparse.dims))


def _of_tensor(tensor: onnx.TensorProto) -> Facts:
    shape = tuple(tensor.dims)
    inline = tensor.data_location != onnx.TensorProto.EXTERNAL
    if not inline or math.prod(shape) > LARGEST or tensor.data_type == onnx.TensorProto.STRING:
        return Facts(tensor.data_type, shape)
    content = onnx.numpy_helper.to_array(tensor)
    return Facts(tensor.data_type, shape, content=content if content.dtype.kind in "biuf" else None)


def _constant(node: Node) -> Facts:
    tensor = node.attribute("value")
    if tensor is not None:
        return _of_tensor(tensor)
    sparse = node.attribute("sparse_value")
    if sparse is not None:
        return Facts(sparse.values.data_type, tuple(sparse.dims))
    texts = node.attribute("value_strings", node.attribute("value_string"))
    if texts is not None:
        return Facts(onnx.TensorProto.STRING, (len(texts),) if isinstance(texts, list) else ())
    for kind, data_type in (("int", onnx.TensorProto.INT64), ("float", onnx.TensorProto.FLOAT)):
        numbers = node.attribute(f"value_{kind}s", node.attribute(f"value_{kind}"))
        if numbers is not None:
            shape = (len(numbers),) if isinstance(numbers, list) else ()
            return _of_tensor(onnx.helper.make_tensor("", data_type, shape, numbers if shape else [numbers]))
    raise node.mixes("holds no value")


def _resolved(node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto]) -> onnx.NodeProto:
    """Returns a node with the attributes that it takes from its function's caller."""
    if not any(item.ref_attr_name for item in node.attribute):
        return node
    resolved = onnx.NodeProto()
    resolved.CopyFrom(node)
    del resolved.attribute[:]
    for item in node.attribute:
        found = given.get(item.ref_attr_name) if item.ref_attr_name else item
        if found is not None:
            resolved.attribute.add().CopyFrom(found)
            resolved.attribute[-1].name = item.name
    return resolved
