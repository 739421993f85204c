"""Writes small ONNX graphs that read one activation [example, feature] and work in any model of opset 13 or later.

13 is the lowest opset of which every operator used here has the form that it still has in the newest: that of ArgMax,
ReduceSum and Softmax came with it, and what changed later (Relu, ScatterElements, ...) only grew. So a graph can be
grafted on to a model of opset 13 or later as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxscope_server.domain import Array

INPUT = "activation"
OPSET = 13
IR_VERSION = 8
# protobuf writes no message of 2 GiB; the rest is for nodes, names and metadata
CONSTANT_LIMIT_BYTES = 2**31 - 2**24


class GraphWriter:
    """A graph that grows node by node; values are known by their names.

    Args:
        feature_count: of the activation.
    """

    def __init__(self, feature_count: int) -> None:
        self._feature_count = feature_count
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._output_names: dict[str, str] = {}
        self._bytes = 0

    def constant(self, array: Array, name: str | None = None) -> str:
        """Adds an initialiser and returns its name."""
        name = name or f"constant_{len(self._constants)}"
        self._bytes += array.nbytes
        if self._bytes <= CONSTANT_LIMIT_BYTES:
            self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def number(self, value: float, dtype: type[np.floating[Any]] = np.float64) -> str:
        """Adds one number as an initialiser and returns its name."""
        return self.constant(np.array([value], dtype))

    def integer(self, value: int) -> str:
        """Adds one integer, as axes and k are given, as an initialiser int64 [1], and returns its name."""
        return self.constant(np.array([value], np.int64))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node of one output, and returns that."""
        return self.add_several(operator, 1, *inputs, **attributes)[0]

    def add_several(self, operator: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Adds a node of `count` outputs, and returns them."""
        names = [f"{operator.lower()}_{len(self._nodes)}_{index}" for index in range(count)]
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def cast(self, value: str, dtype: type[np.generic]) -> str:
        """Casts a value to another type of elements."""
        return self.add("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def output(self, name: str, value: str, data_type: int, *shape: int) -> None:
        """Makes `value` [example, *shape], of an ONNX data type, an output, which `model` gives its name."""
        self._output_names[value] = name
        self._outputs.append(helper.make_tensor_value_info(name, data_type, ["example", *shape]))

    def model(self, too_large: Callable[[str], Exception]) -> onnx.ModelProto:
        """Returns the finished model.

        Args:
            too_large: makes what to raise where it would have more than the 2 GiB of a file, from words that say so.
        """
        if self._bytes > CONSTANT_LIMIT_BYTES:
            raise too_large(f"an ONNX file holds less than 2 GiB, and this would have {self._bytes / 2**30:.1f} GiB")
        activation = helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["example", self._feature_count])
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [self._output_names.get(name, name) for name in names]
        graph = helper.make_graph(self._nodes, "probe", [activation], self._outputs, self._constants)
        return helper.make_model(
            graph,
            producer_name="onnxscope",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
