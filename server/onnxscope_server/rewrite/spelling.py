"""Writes a probe's graph in the version of the operators that a model has.

The model stays as it is: an operator of another version could compute other bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir

from onnxscope_server.catalog import graph
from onnxscope_server.catalog.inside import inner_nodes
from onnxscope_server.catalog.scopes import OWN_DOMAINS, imported
from onnxscope_server.errors import ProbeInvalidError

# the opset from which on an operator does to floats what its newest version does, with the attributes that it has there
_SAME_SINCE: Mapping[str, int] = {
    "Abs": 6, "Add": 7, "And": 7, "ArgMax": 1, "ArgMin": 1, "Cast": 6, "Ceil": 6, "Concat": 4, "Constant": 1,
    "ConstantOfShape": 9, "Div": 7, "Elu": 6, "Equal": 11, "Erf": 9, "Exp": 6, "Expand": 8, "Flatten": 9, "Floor": 6,
    "Gather": 1, "Gemm": 7, "Greater": 9, "GreaterOrEqual": 12, "Identity": 1, "LeakyRelu": 6, "Less": 9,
    "LessOrEqual": 12, "Log": 6, "MatMul": 1, "Max": 8, "Min": 8, "Mul": 7, "Neg": 6, "Not": 1, "OneHot": 11, "Or": 7,
    "Pow": 7, "Reciprocal": 6, "Relu": 6, "Reshape": 5, "Shape": 1, "Sigmoid": 6, "Sign": 9, "Slice": 10, "Softplus": 1,
    "Sqrt": 6, "Sub": 7, "Sum": 8, "Tanh": 6, "Tile": 6, "TopK": 10, "Transpose": 1, "Where": 9, "Xor": 7,
}  # fmt: skip
_AXES_WERE_AN_ATTRIBUTE = frozenset(
    {
        "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
        "ReduceSumSquare", "Squeeze", "Unsqueeze",
    }
)  # fmt: skip
_NEGATIVE_AXES_SINCE = 11
# attributes that came later, and what they must hold to mean nothing
_MEANS_NOTHING: Mapping[str, int] = {
    "select_last_index": 0, "allowzero": 0, "noop_with_empty_axes": 0, "largest": 1, "sorted": 1,
}  # fmt: skip
_SOFTMAX = frozenset({"Softmax", "LogSoftmax"})
_SOFTMAX_FLATTENED_UNTIL = 13


def at_versions(data: bytes, name: str, opset: int, imports: Mapping[str, int]) -> ir.Model:
    """Returns a probe's graph, without local functions, as a model with these operators may hold it.

    Args:
        data: the probe's file.
        name: of the probe, for errors.
        opset: version of ONNX's own operators.
        imports: versions of other domains that the model has; one that is missing may be any.

    Raises:
        ProbeInvalidError: it can't be written in these versions, or has weights outside of its file.
    """
    proto = graph.parse(data)
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    own = imported(proto).get("", opset)
    if own < opset and not all(_is_same(node, own, opset) for node in _own_nodes(graph.from_proto(proto))):
        try:
            proto = onnx.version_converter.convert_version(proto, opset)
        except Exception as error:  # of whatever kind the converter's are
            raise _invalid(name, f"it can't be converted from opset {own} to the model's {opset}: {error}") from error
    probe = graph.from_proto(proto)
    if own > opset:
        for node in list(_own_nodes(probe)):
            _respell(node, name, own, opset)
    for node in _every_node(probe):
        have = imports.get(node.domain)
        if node.domain not in OWN_DOMAINS and have is not None:
            wanted = probe.opset_imports.get(node.domain, have)
            if not _is_same(node, wanted, have):
                raise _invalid(
                    name, f"its {node.op_type} is of {node.domain} {wanted}, and the model has version {have} of that"
                )
    if any(isinstance(value.const_value, ir.ExternalTensor) for value in probe.graph.initializers.values()):
        raise _invalid(name, "its weights are sparse or lie outside of its file")
    return probe


def _every_node(model: ir.Model) -> Iterator[ir.Node]:
    for node in model.graph:
        yield node
        yield from inner_nodes(node)


def _own_nodes(model: ir.Model) -> Iterator[ir.Node]:
    return (node for node in _every_node(model) if node.domain in OWN_DOMAINS)


def _is_same(node: ir.Node, one: int, other: int) -> bool:
    """Tells whether two versions of a domain have the same version of an operator."""
    return one == other or _since(node, one) == _since(node, other) is not None


def _since(node: ir.Node, version: int) -> int | None:
    try:
        found: int = onnx.defs.get_schema(node.op_type, version, node.domain).since_version
    except onnx.defs.SchemaError:
        return None
    return found


def _respell(node: ir.Node, name: str, own: int, opset: int) -> None:
    """Turns a node into one of an older opset that does the same."""
    if _is_same(node, own, opset):
        return
    for attribute, value in _MEANS_NOTHING.items():
        if attribute in node.attributes and node.attributes[attribute].as_int() == value:
            del node.attributes[attribute]
    kind = node.op_type
    if kind in _SOFTMAX and opset < _SOFTMAX_FLATTENED_UNTIL:
        possible = _softmax(node)
    elif kind in _AXES_WERE_AN_ATTRIBUTE:
        possible = _axes_as_attribute(node)
    else:
        possible = kind in _SAME_SINCE and opset >= _SAME_SINCE[kind]
    if not possible or not _is_known(node, opset):
        raise _invalid(
            name,
            f"its {kind} of opset {own} can't be said in the model's opset {opset}. Convert the model with "
            "onnx.version_converter, or export the probe for that opset",
        )


def _is_known(node: ir.Node, opset: int) -> bool:
    """Tells whether an opset has an operator with what a node has."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return False
    axes = [node.attributes[name].value for name in ("axis", "axes") if name in node.attributes]
    lowest = min((axis for found in axes for axis in (found if isinstance(found, Sequence) else [found])), default=0)
    return (
        set(node.attributes) <= set(schema.attributes)
        and schema.min_input <= len(node.inputs) <= schema.max_input
        and (lowest >= 0 or opset >= _NEGATIVE_AXES_SINCE)
    )


def _softmax(node: ir.Node) -> bool:
    """Says the axis, which once was the first of all that are one: the same for the last axis of a matrix."""
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if axis not in (-1, 1) or (shape is not None and len(shape) != 2):  # noqa: PLR2004 -- of a matrix
        return False
    node.attributes["axis"] = ir.AttrInt64("axis", 1)
    return True


def _axes_as_attribute(node: ir.Node) -> bool:
    if len(node.inputs) < 2 or node.inputs[1] is None:  # noqa: PLR2004 -- the axes are the second input
        return True
    axes = ir.convenience.get_const_tensor(node.inputs[1])
    if axes is None:
        return False
    node.resize_inputs(1)
    node.attributes["axes"] = ir.AttrInt64s("axes", [int(axis) for axis in axes.numpy().reshape(-1)])
    return True


def _invalid(name: str, why: str) -> ProbeInvalidError:
    return ProbeInvalidError(f"The probe {name!r} does not fit the model: {why}.", probe=name, detail=why)
