"""The pass that makes values of the main graph its outputs."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from onnxscope_server.catalog import graph
from onnxscope_server.rewrite.names import FreshNames
from onnxscope_server.rewrite.opset import opset_of
from onnxscope_server.rewrite.scopes import values_by_name

_T = ir.DataType
_ALWAYS = frozenset(
    {
        _T.FLOAT, _T.DOUBLE, _T.FLOAT16, _T.INT8, _T.INT16, _T.INT32, _T.INT64,
        _T.UINT8, _T.UINT16, _T.UINT32, _T.UINT64, _T.BOOL, _T.STRING,
    }
)  # fmt: skip


class Expose(ir.passes.InPlacePass):
    """Makes values outputs, behind the outputs that the graph has.

    - The result of a node becomes an output under its own name.

          Before:  x -> Conv -> c -> Relu -> y      outputs: y
          After:   x -> Conv -> c -> Relu -> y      outputs: y, c

    - A value that is an output already is found under that output.
    - An initializer becomes an output as it is; onnxruntime copies it. Not so a sparse one, which then is missing to
      other nodes: it goes through an Identity.
    - A graph input goes through an Identity: onnxruntime would hand the caller's own memory back, and leave a buffer
      that is bound to such an output unwritten. Types that have no Identity are handed through.

          Before:  x -> Conv -> c                   outputs: c
          After:   x -> Conv -> c                   outputs: c, x::exposed
                   x -> Identity -> x::exposed

    Types stay as the file states them. Where it states none, the output has none either and onnxruntime infers it:
    a wrong element type would keep the graph from loading.

    Args:
        addresses: names of values of the main graph.

    Attributes:
        exposed: the output of each address, after the call.
    """

    def __init__(self, addresses: Iterable[str]) -> None:
        self._addresses = tuple(dict.fromkeys(addresses))
        self.exposed: dict[str, str] = {}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Extends the list of outputs."""
        values = values_by_name(model.graph)
        outputs = {value.name for value in model.graph.outputs}
        names = FreshNames(model)
        modified = False
        for address in self._addresses:
            value = values[address]
            if address not in outputs:
                through = value.is_graph_input() or graph.is_sparse(value)
                if through and _has_identity(value, opset_of(model)):
                    value = _copied(model.graph, value, names.like(f"{address}::exposed"))
                model.graph.outputs.append(value)
                modified = True
            self.exposed[address] = value.name or ""
        return ir.passes.PassResult(model, modified=modified)

    def ensures(self, model: ir.Model) -> None:
        """Every address has an output."""
        outputs = {value.name for value in model.graph.outputs}
        if not outputs.issuperset(self.exposed.values()):
            raise ir.passes.PostconditionError("an exposed value is not an output")


def _has_identity(value: ir.Value, opset: int) -> bool:
    """Tells whether onnxruntime's Identity takes a value of this type at this opset."""
    if not isinstance(value.type, ir.TensorType):
        return False
    return value.type.dtype in _ALWAYS or (value.type.dtype is _T.BFLOAT16 and opset >= 13)  # noqa: PLR2004


def _copied(main: ir.Graph, value: ir.Value, name: str) -> ir.Value:
    node = ir.node("Identity", [value], outputs=[ir.Value(name=name)], name=name)
    main.append(node)
    return node.outputs[0]
