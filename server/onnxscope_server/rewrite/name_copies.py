"""The pass that gives functions of one call names of their own."""

from __future__ import annotations

import itertools

import onnx_ir as ir

from onnxscope_server.catalog.inside import inner_nodes
from onnxscope_server.catalog.own_functions import is_copy


class NameCopies(ir.passes.InPlacePass):
    """Tells the copies of functions apart by name, not by overload: onnxruntime finds no overload in nested calls.

    Before:  a = F:call_1(x)  b = F:call_2(a)         functions: F:call_1, F:call_2
    After:   a = F_1(x)  b = F_2(a)                   functions: F_1, F_2
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Renames functions and the nodes that call them."""
        taken = {(domain, name) for domain, name, _ in model.functions}
        copies = {key: function for key, function in model.functions.items() if is_copy(key[2])}
        for key, function in copies.items():
            free = (f"{function.name}_{count}" for count in itertools.count(1))
            function.name = next(name for name in free if (function.domain, name) not in taken)
            taken.add((function.domain, function.name))
            function.overload = ""
            del model.functions[key]
            model.functions[function.identifier()] = function
        for holder in (model.graph, *model.functions.values()):
            for node in (inner for one in holder for inner in (one, *inner_nodes(one))):
                if node.op_identifier() in copies:
                    function = copies[node.op_identifier()]
                    node.op_type, node.overload = function.name, ""
        return ir.passes.PassResult(model, modified=bool(copies))

    def ensures(self, model: ir.Model) -> None:
        """No copy has an overload any more."""
        if any(is_copy(overload) for _, _, overload in model.functions):
            raise ir.passes.PostconditionError("a copy has an overload")
