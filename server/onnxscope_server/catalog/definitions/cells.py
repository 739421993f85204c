"""One step of an LSTM, a GRU and an RNN, as the ONNX operators define them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from onnxscope_server.catalog.definitions.activations import Activation
from onnxscope_server.catalog.definitions.writer import Writer


class Cell(ABC):
    """One direction of a recurrent operator.

    Args:
        writer: writes what is computed before the first step.
        attributes: of the node.
        given: which inputs the node has.
        functions: the activation functions of this direction.
        direction: its place in the weights.

    Attributes:
        units: size of the states.
        parts: what a step computes, in the order of computation.
        states: what is carried from step to step, and the part that it is.
        activations: names of the functions where the node doesn't say.
        gates: number of gates in the weights.
    """

    parts: ClassVar[tuple[str, ...]]
    states: ClassVar[dict[str, str]]
    activations: ClassVar[tuple[str, ...]]
    gates: ClassVar[int]

    def __init__(
        self,
        writer: Writer,
        attributes: Mapping[str, Any],
        given: set[str],
        functions: Sequence[Activation],
        direction: int,
    ) -> None:
        self.units = int(attributes["hidden_size"])
        self.functions = functions
        self.attributes = attributes
        self.clip = float(attributes.get("clip", 0.0))
        self.recurrent = writer.add("Transpose", writer.take("R", direction, 0), perm=[1, 0])
        self.biases: tuple[str, str] | None = None
        if "B" in given:
            both = writer.reshape(writer.take("B", direction, 0), 2, -1)
            self.biases = writer.take(both, 0, 0), writer.take(both, 1, 0)
        self._weights = writer.add("Transpose", writer.take("W", direction, 0), perm=[1, 0])
        self._writer = writer

    def project(self, x: str) -> str:
        """Writes what the weights make of the input, with the biases that belong to it."""
        product = self._writer.add("MatMul", x, self._weights)
        return self._writer.add("Add", product, self.input_bias()) if self.biases else product

    def input_bias(self) -> str:
        """Writes the biases that are added before the first step: both."""
        return self._writer.add("Add", *(self.biases or ()))

    @abstractmethod
    def step(self, writer: Writer, x: str, states: Mapping[str, str]) -> dict[str, str]:
        """Writes one step.

        Args:
            writer: writes the body.
            x: the projected input, [row, gate x unit].
            states: by name, [row, unit].

        Returns:
            The parts by name, [row, unit].
        """

    def split(self, writer: Writer, value: str) -> list[str]:
        """Writes the gates of [row, gate x unit] apart."""
        apart = writer.reshape(value, -1, self.gates, self.units)
        return [writer.take(apart, index, 1) for index in range(self.gates)]

    def activated(self, writer: Writer, value: str, index: int) -> str:
        """Writes an activation function, with the clip before it."""
        if self.clip > 0:
            value = writer.clip(value, self.clip)
        return self.functions[index](writer, value)

    def mixed(self, writer: Writer, gate: str, new: str, old: str) -> str:
        """Writes (1 - gate) * new + gate * old."""
        left = writer.add("Mul", writer.add("Sub", writer.number(1.0), gate), new)
        return writer.add("Add", left, writer.add("Mul", gate, old))


class LSTM(Cell):
    """Gates in the order i, o, f, c; peepholes in the order i, o, f."""

    parts = ("i", "o", "f", "c_tilde", "C", "H")
    states = {"h": "H", "c": "C"}  # noqa: RUF012 -- declared as a class variable by the base
    activations = ("sigmoid", "tanh", "tanh")
    gates = 4

    def __init__(
        self,
        writer: Writer,
        attributes: Mapping[str, Any],
        given: set[str],
        functions: Sequence[Activation],
        direction: int,
    ) -> None:
        super().__init__(writer, attributes, given, functions, direction)
        self._peepholes: list[str] = []
        if "P" in given:
            apart = writer.reshape(writer.take("P", direction, 0), 3, -1)
            self._peepholes = [writer.take(apart, index, 0) for index in range(3)]

    def step(self, writer: Writer, x: str, states: Mapping[str, str]) -> dict[str, str]:
        """Writes one step; the output gate sees the new cell state."""
        h, c = states["h"], states["c"]
        i, o, f, g = self.split(writer, writer.add("Add", x, writer.add("MatMul", h, self.recurrent)))
        i = self.activated(writer, self._peeped(writer, i, c, 0), 0)
        if self.attributes.get("input_forget"):
            f = writer.add("Sub", writer.number(1.0), i)
        else:
            f = self.activated(writer, self._peeped(writer, f, c, 2), 0)
        g = self.activated(writer, g, 1)
        new = writer.add("Add", writer.add("Mul", f, c), writer.add("Mul", i, g))
        o = self.activated(writer, self._peeped(writer, o, new, 1), 0)
        # onnxruntime bounds the gates, and not what the cell shows
        hidden = writer.add("Mul", o, self.functions[2](writer, new))
        return {"i": i, "o": o, "f": f, "c_tilde": g, "C": new, "H": hidden}

    def _peeped(self, writer: Writer, gate: str, cell: str, index: int) -> str:
        if not self._peepholes:
            return gate
        return writer.add("Add", gate, writer.add("Mul", self._peepholes[index], cell))


class GRU(Cell):
    """Gates in the order z, r, h."""

    parts = ("z", "r", "h_tilde", "H")
    states = {"h": "H"}  # noqa: RUF012 -- declared as a class variable by the base
    activations = ("sigmoid", "tanh")
    gates = 3

    def __init__(
        self,
        writer: Writer,
        attributes: Mapping[str, Any],
        given: set[str],
        functions: Sequence[Activation],
        direction: int,
    ) -> None:
        super().__init__(writer, attributes, given, functions, direction)
        weights = writer.reshape(writer.take("R", direction, 0), self.gates, self.units, -1)
        self._of_gate = [
            writer.add("Transpose", writer.take(weights, index, 0), perm=[1, 0]) for index in range(self.gates)
        ]
        self._bias_of_gate: list[str] = []
        if self.biases:
            apart = writer.reshape(self.biases[1], self.gates, -1)
            self._bias_of_gate = [writer.take(apart, index, 0) for index in range(self.gates)]

    def input_bias(self) -> str:
        """Writes the bias of the input alone: the other one is added in the step."""
        return (self.biases or ("",))[0]

    def step(self, writer: Writer, x: str, states: Mapping[str, str]) -> dict[str, str]:
        """Writes one step; the reset gate works before the weights or after them."""
        h = states["h"]
        inputs = self.split(writer, x)
        z, r = (
            self.activated(writer, writer.add("Add", inputs[index], self._seen(writer, h, index)), 0)
            for index in range(2)
        )
        if self.attributes.get("linear_before_reset"):
            past = writer.add("Mul", r, self._seen(writer, h, 2))
        else:
            past = self._seen(writer, writer.add("Mul", r, h), 2)
        new = self.activated(writer, writer.add("Add", inputs[2], past), 1)
        return {"z": z, "r": r, "h_tilde": new, "H": self.mixed(writer, z, new, h)}

    def _seen(self, writer: Writer, h: str, index: int) -> str:
        product = writer.add("MatMul", h, self._of_gate[index])
        return writer.add("Add", product, self._bias_of_gate[index]) if self._bias_of_gate else product


class RNN(Cell):
    """One gate."""

    parts = ("H",)
    states = {"h": "H"}  # noqa: RUF012 -- declared as a class variable by the base
    activations = ("tanh",)
    gates = 1

    def step(self, writer: Writer, x: str, states: Mapping[str, str]) -> dict[str, str]:
        """Writes one step."""
        total = writer.add("Add", x, writer.add("MatMul", states["h"], self.recurrent))
        return {"H": self.activated(writer, total, 0)}
