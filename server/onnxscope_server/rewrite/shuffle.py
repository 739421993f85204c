"""A copy of a model whose weights are shuffled: what its architecture tells without having learned anything."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir

from onnxscope_server.catalog import graph
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.errors import DataInvalidError

_FILE = "shuffled.bin"
_PAGE = 4096
_MATRIX = 2
_LARGE_BYTES = 1 << 20
# integers of 8 bits and fewer are quantised weights; others are indices and shapes
_QUANTISED = frozenset({ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4})


def shuffled(model: CatalogModel, seed: int, folder: Path) -> CatalogModel:
    """Permutes the elements of each weight that has two axes or more; the others stay.

    Args:
        model: the model; it is not changed.
        seed: of the permutations.
        folder: an empty one, for the copy's large weights; needed as long as the copy is.

    Returns:
        The copy, with a digest of its own.

    Raises:
        DataInvalidError: it has no such weights.
    """
    copy, rng, count = model.graph(), np.random.default_rng(seed), 0
    with (folder / _FILE).open("wb") as file:
        for inner in (copy.graph, *copy.graph.subgraphs()):
            for value in inner.initializers.values():
                tensor = value.const_value
                if tensor is None or graph.is_sparse(value):
                    continue
                mixed = _mixed(tensor, rng)
                count += mixed is not None
                if isinstance(tensor, ir.ExternalTensor) or (mixed is not None and mixed.nbytes >= _LARGE_BYTES):
                    value.const_value = _written(tensor if mixed is None else mixed, file)
                elif mixed is not None:
                    value.const_value = mixed
        for node in copy.graph.all_nodes():
            tensor = _constant(node)
            mixed = None if tensor is None else _mixed(tensor, rng)
            if mixed is not None:
                count += 1
                node.attributes["value"] = ir.AttrTensor("value", mixed)
        has_large = file.tell() > 0
    if not count:
        raise DataInvalidError(
            "The model has no weights of two axes or more to shuffle; leave out the control by shuffled weights.",
            what="shuffled_control",
        )
    return CatalogModel(
        digest=f"{model.digest}-shuffled-{seed}",
        byte_count=model.byte_count,
        graph_bytes=graph.write(copy),
        data_folder=folder if has_large else None,
    )


def _constant(node: ir.Node) -> ir.TensorProtocol | None:
    attribute = node.attributes.get("value") if node.op_type == "Constant" and not node.domain else None
    return attribute.as_tensor() if attribute is not None and attribute.type is ir.AttributeType.TENSOR else None


def _mixed(tensor: ir.TensorProtocol, rng: np.random.Generator) -> ir.TensorProtocol | None:
    """Returns a tensor with its elements in another order; None where it is left as it is."""
    if len(tensor.shape) < _MATRIX or not (tensor.dtype.is_floating_point() or tensor.dtype in _QUANTISED):
        return None
    array = tensor.numpy()
    return ir.Tensor(rng.permutation(array.reshape(-1)).reshape(array.shape), tensor.dtype, name=tensor.name)


def _written(tensor: ir.TensorProtocol, file: BinaryIO) -> ir.ExternalTensor:
    file.seek(-(-file.tell() // _PAGE) * _PAGE)
    start = file.tell()
    file.write(tensor.tobytes())
    return ir.ExternalTensor(
        _FILE, start, file.tell() - start, tensor.dtype, shape=ir.Shape(tensor.numpy().shape), name=tensor.name or ""
    )
