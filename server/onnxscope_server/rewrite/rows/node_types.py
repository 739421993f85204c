"""Types of one node's outputs, from what is known of its inputs, while the number of rows is left open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import onnx.shape_inference

from onnxscope_server.rewrite.rows.facts import Count, Facts, Size

_ROWS = "rows"


def inferred(node: onnx.NodeProto, imports: Mapping[str, int], inputs: Sequence[Facts | None]) -> list[Facts]:
    """Infers types and shapes of a node's outputs as ONNX defines its operator.

    Args:
        node: of one of ONNX's own domains.
        imports: version of each domain.
        inputs: facts in order.

    Returns:
        For each output its type and shape as far as they are known; sizes that grow with the rows are None.
    """
    unknown = [Facts(None, None)] * len(node.output)
    version = imports.get(node.domain)
    # inference of some operators ends the process where it knows no type of an input; the models of ai.onnx.ml are too
    # large to be handed over, and more is known of them than it would tell
    if version is None or node.domain or any(item is not None and item.data_type is None for item in inputs):
        return unknown
    named = {name: item for name, item in zip(node.input, inputs, strict=True) if item is not None}
    types = {name: _type(item) for name, item in named.items()}
    data = {name: _tensor(item) for name, item in named.items() if item.content is not None and item.is_fixed}
    imported = [onnx.helper.make_opsetid(domain, number) for domain, number in imports.items()]
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
        found = onnx.shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=imported)
    except Exception:  # noqa: BLE001 -- it raises what its C++ side throws; then nothing is known
        return unknown
    return [_facts(found.get(name)) for name in node.output]


def _type(facts: Facts) -> onnx.TypeProto:
    result = onnx.TypeProto()
    result.tensor_type.elem_type = facts.data_type or 0
    if facts.shape is not None:
        result.tensor_type.shape.SetInParent()
        for size in facts.shape:
            if isinstance(size, int):
                result.tensor_type.shape.dim.add(dim_value=size)
            elif isinstance(size, Count):
                result.tensor_type.shape.dim.add(dim_param=f"{_ROWS}*{size.per_row}")
            else:
                result.tensor_type.shape.dim.add()
    return result


def _tensor(facts: Facts) -> onnx.TensorProto:
    content = facts.content
    assert content is not None  # noqa: S101  # asked of values whose elements are known only
    return onnx.numpy_helper.from_array(content.astype(onnx.helper.tensor_dtype_to_np_dtype(facts.data_type or 1)))


def _facts(found: onnx.TypeProto | None) -> Facts:
    if found is None or found.WhichOneof("value") != "tensor_type":
        return Facts(None, None)
    tensor = found.tensor_type
    if not tensor.HasField("shape"):
        return Facts(tensor.elem_type, None)
    shape: list[Size] = [size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim]
    return Facts(tensor.elem_type, tuple(shape))
