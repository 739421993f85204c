"""Random models with nested control flow and functions, for hypothesis."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
_UNARY = ("Neg", "Tanh", "Abs", "Identity", "Sigmoid")
_KINDS = ("unary", "unary", "add", "concat", "slice", "if", "loop", "scan", "call")
_DEEPEST = 3


@dataclass
class _Graph:
    """A graph that grows; every value in it is float [any number]."""

    draw: st.DrawFn
    depth: int
    visible: list[str]
    outer: frozenset[str] = frozenset()
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    functions: list[onnx.FunctionProto] = field(default_factory=list)

    def any(self) -> str:
        return self.draw(st.sampled_from(self.visible))

    def name(self, wanted: str) -> str:
        """Returns a name that is new here and around here; graphs side by side may share names."""
        taken = self.names()
        return next(name for name in (wanted, *(f"{wanted}{count}" for count in range(1000))) if name not in taken)

    def names(self) -> frozenset[str]:
        """Returns the names that no graph in here may use."""
        return self.outer | {name for node in self.nodes for name in node.output} | {*self.visible}

    def add(self, op_type: str, inputs: list[str], *, name: str = "", domain: str = "", **attributes: object) -> str:
        output = self.name(name or op_type.lower())
        free = {"", f"n{len(self.nodes)}", "same"} - {node.name for node in self.nodes if node.name}
        named = self.draw(st.sampled_from(sorted(free)))
        self.nodes.append(helper.make_node(op_type, inputs, [output], named, domain=domain, **attributes))
        return output

    def keep(self, name: str) -> None:
        self.visible.append(name)
        self.own.append(name)

    def constant(self, value: np.ndarray) -> str:
        return self.add("Constant", [], value=numpy_helper.from_array(value))

    def scalar(self, number: int) -> str:
        return self.constant(np.array(number, np.int64))

    def inner(self, *more: str) -> _Graph:
        """Returns a graph within this one that sees its values and has the inputs `more`."""
        return _Graph(self.draw, self.depth + 1, [*self.visible, *more], self.names(), functions=self.functions)

    def leave(self, inner: _Graph) -> None:
        """Mostly avoids what the graph within is called by; onnxruntime does not take all that is called the same."""
        if self.draw(st.integers(0, 3)):
            self.outer |= inner.names()

    def grow(self) -> None:
        kinds = _KINDS if self.depth < _DEEPEST else _KINDS[:5]
        for _ in range(self.draw(st.integers(1, 4))):
            getattr(self, f"_{self.draw(st.sampled_from(kinds))}")()

    def result(self) -> str:
        """Returns a value that this graph makes itself."""
        return self.add("Identity", [self.draw(st.sampled_from(self.own or self.visible))])

    def _unary(self) -> None:
        self.keep(self.add(self.draw(st.sampled_from(_UNARY)), [self.any()], name=self.draw(st.sampled_from("abcd"))))

    def _add(self) -> None:
        one = self.add("ReduceSum", [self.any()], keepdims=1)
        self.keep(self.add("Add", [one, self.any()], name=self.draw(st.sampled_from("abcd"))))

    def _concat(self) -> None:
        """One element more: whole values would double their size at every iteration."""
        one = self.add("ReduceSum", [self.any()], keepdims=1)
        self.keep(self.add("Concat", [one, self.any()], axis=0))

    def _slice(self) -> None:
        bounds = [self.constant(np.array([number], np.int64)) for number in (0, self.draw(st.integers(0, 3)))]
        self.keep(self.add("Slice", [self.any(), *bounds]))

    def _if(self) -> None:
        total = self.add("ReduceSum", [self.any()], keepdims=0)
        zero = self.constant(np.array(0, np.float32))
        condition = self.add("Greater", [total, zero])
        branches, around = {}, []
        for where in ("then_branch", "else_branch"):
            inner = self.inner()
            inner.grow()
            output = inner.result()
            branches[where] = helper.make_graph(inner.nodes, where, [], [_floats(output)])
            around.append(inner)
        for inner in around:
            self.leave(inner)
        self.keep(self.add("If", [condition], **branches))

    def _loop(self) -> None:
        trips = self.scalar(self.draw(st.integers(0, 3)))
        going = self.constant(np.array(True))
        state = self.draw(st.sampled_from(["s", "state"]))
        inner = self.inner(state)
        inner.grow()
        still = inner.add("Identity", ["going_in"])
        output = inner.result()
        inputs = [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going_in", TensorProto.BOOL, []),
            _floats(state),
        ]
        outputs = [helper.make_tensor_value_info(still, TensorProto.BOOL, []), _floats(output)]
        body = helper.make_graph(inner.nodes, "body", inputs, outputs)
        self.leave(inner)
        self.keep(self.add("Loop", [trips, going, self.any()], body=body))

    def _scan(self) -> None:
        """A Scan over the elements of a value; what it hands on and gives keeps its shape, what is in it need not."""
        total, part = "total", "element"
        inner = _Graph(
            self.draw, self.depth + 1, list(self.visible), self.names() | {total, part}, functions=self.functions
        )
        for name in (total, part):
            all_of_it = inner.constant(np.array([-1], np.int64))
            inner.keep(inner.add("Reshape", [name, all_of_it]))
        inner.grow()
        new, each = (inner.add("ReduceSum", [inner.any()], keepdims=0) for _ in range(2))
        scalar = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in (total, part, new, each)]
        body = helper.make_graph(inner.nodes, "body", scalar[:2], scalar[2:])
        self.leave(inner)
        start = self.constant(np.array(0, np.float32))
        # onnxruntime fails over no steps
        steps = self.add("Concat", [self.add("ReduceSum", [self.any()], keepdims=1), self.any()], axis=0)
        final, stacked = self.name("final"), self.name("stacked")
        self.nodes.append(helper.make_node("Scan", [start, steps], [final, stacked], body=body, num_scan_inputs=1))
        self.keep(stacked)

    def _call(self) -> None:
        """A call of a function that there is, or of a new one; functions see nothing but their inputs."""
        known = [function.name for function in self.functions]
        name = self.draw(st.sampled_from([*known, ""]))
        if not name:
            inner = _Graph(self.draw, self.depth + 1, ["p"], functions=self.functions)
            inner.grow()
            output = inner.result()
            name = f"F{len(self.functions)}"
            self.functions.append(helper.make_function("local", name, ["p"], [output], inner.nodes, OPSETS))
        self.keep(self.add(name, [self.any()], domain="local"))


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """Draws a model with one input x, float [3], and one output y."""
    graph = _Graph(draw, 0, ["x"])
    graph.grow()
    graph.nodes.append(helper.make_node("Identity", [draw(st.sampled_from(graph.visible))], ["y"]))
    whole = helper.make_graph(
        graph.nodes, "random", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])], [_floats("y")]
    )
    return helper.make_model(whole, opset_imports=OPSETS, functions=graph.functions, ir_version=8)


def _floats(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None])
