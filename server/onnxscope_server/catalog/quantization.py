"""Which values are quantised, and where their scales and zero points are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx

from onnxscope_server.catalog.scopes import OWN_DOMAINS, Path, Place, Scope, Step, anchor_of, scopes, visible

_MICROSOFT = "com.microsoft"


@dataclass(frozen=True, slots=True)
class Scaling:
    """How a value is quantised: real = (stored - zero point) * scale.

    Attributes:
        scale: where the scale is: a scalar, or one for each entry or block along the axis.
        zero_point: where the zero point is; None for 0.
        axis: along which scales differ.
        block_size: entries of the axis that share a scale; 0 for all or one.
        domain: of a DequantizeLinear that takes the value.
    """

    scale: Place
    zero_point: Place | None
    axis: int
    block_size: int
    domain: str


@dataclass(frozen=True, slots=True)
class _Triple:
    """Places among a node's inputs: of a value, of its scale and of its zero point; a negative value is an output."""

    value: int
    scale: int
    zero_point: int


_OUTPUT = -1
_TWO_IN = (_Triple(0, 1, 2), _Triple(3, 4, 5), _Triple(_OUTPUT, 6, 7))
_ONE_IN = (_Triple(0, 1, 2), _Triple(_OUTPUT, 3, 4))
_RULES: dict[tuple[str, str], tuple[_Triple, ...]] = {
    ("", "QuantizeLinear"): (_Triple(_OUTPUT, 1, 2),),
    ("", "DequantizeLinear"): (_Triple(0, 1, 2),),
    ("", "QLinearConv"): _TWO_IN,
    ("", "QLinearMatMul"): _TWO_IN,
    (_MICROSOFT, "QuantizeLinear"): (_Triple(_OUTPUT, 1, 2),),
    (_MICROSOFT, "DequantizeLinear"): (_Triple(0, 1, 2),),
    (_MICROSOFT, "QLinearConv"): _TWO_IN,
    (_MICROSOFT, "QLinearAdd"): _TWO_IN,
    (_MICROSOFT, "QLinearMul"): _TWO_IN,
    (_MICROSOFT, "QGemm"): (_Triple(0, 1, 2), _Triple(3, 4, 5), _Triple(_OUTPUT, 7, 8)),
    (_MICROSOFT, "DynamicQuantizeMatMul"): (_Triple(1, 2, 3),),
    (_MICROSOFT, "MatMulIntegerToFloat"): (_Triple(0, 2, 4), _Triple(1, 3, 5)),
} | {
    (_MICROSOFT, op_type): _ONE_IN
    for op_type in (
        "QLinearSigmoid",
        "QLinearLeakyRelu",
        "QLinearSoftmax",
        "QLinearAveragePool",
        "QLinearGlobalAveragePool",
        "QLinearReduceMean",
    )
}
_WEIGHT_AXES = {"QLinearConv": 0, "QLinearMatMul": -1, "QGemm": -1, "DynamicQuantizeMatMul": -1}


def listed(proto: onnx.ModelProto) -> dict[Place, Scaling]:
    """Lists the quantised values of a model.

    Args:
        proto: the model, each call with a function of its own.

    Returns:
        How each is quantised, as the node says that makes it; else the first that reads it.
    """
    known = {scope.path: scope for scope in scopes(proto)}
    calls = {
        (*path, Step(anchor_of(node), node.op_type, "")): node
        for path, scope in known.items()
        for node in scope.holder.node
    }
    names = {path: _own_names(scope, calls.get(path)) for path, scope in known.items()}
    found: dict[Place, Scaling] = {}
    for made in (True, False):
        for path, scope in known.items():
            for node in scope.holder.node:
                for value, scaling in _of_node(node, path, names, made=made):
                    found.setdefault(value, scaling)
    return found


def _of_node(
    node: onnx.NodeProto, path: Path, names: Mapping[Path, set[str]], *, made: bool
) -> Iterator[tuple[Place, Scaling]]:
    domain = "" if node.domain in OWN_DOMAINS else node.domain
    if made and (domain, node.op_type) == ("", "DynamicQuantizeLinear") and all(node.output):
        value, scale, offset = (Place(path, name) for name in node.output)
        yield value, Scaling(scale, offset, 0, 0, "")
    for triple in _RULES.get((domain, node.op_type), ()):
        if (triple.value == _OUTPUT) != made:
            continue
        value_name = node.output[0] if made else _at(node.input, triple.value)
        value_place = _seen(value_name, path, names)
        scale_place = _seen(_at(node.input, triple.scale), path, names)
        if value_place is None or scale_place is None:
            continue
        zero_point = _seen(_at(node.input, triple.zero_point), path, names)
        around = set(visible(value_place.path))
        if scale_place.path not in around or (zero_point is not None and zero_point.path not in around):
            # a body reads a value from outside with a scale of its own, which is not there where the value is
            continue
        given = {attribute.name: attribute.i for attribute in node.attribute}
        axis = given.get("axis", 0 if given.get("transB") else _WEIGHT_AXES.get(node.op_type, 1))
        own = domain if node.op_type in ("QuantizeLinear", "DequantizeLinear") else ""
        yield value_place, Scaling(scale_place, zero_point, axis, given.get("block_size", 0), own)


def _at(inputs: Iterable[str], index: int) -> str:
    listed_inputs = list(inputs)
    return listed_inputs[index] if index < len(listed_inputs) else ""


def _seen(name: str, path: Path, names: Mapping[Path, set[str]]) -> Place | None:
    """Returns where a value is that a graph sees by this name."""
    return next((Place(around, name) for around in visible(path) if name and name in names[around]), None)


def _own_names(scope: Scope, call: onnx.NodeProto | None) -> set[str]:
    names = {name for node in scope.holder.node for name in node.output}
    if isinstance(scope.holder, onnx.GraphProto):
        names |= {item.name for item in scope.holder.input}
        return names | {tensor.name for tensor in scope.holder.initializer}
    # what a call leaves out is not there
    given = call.input if call is not None else ()
    return names | {name for name, actual in zip(scope.holder.input, given, strict=False) if actual}
