"""The activation functions of recurrent operators, with the numbers that they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from onnxscope_server.catalog.definitions.writer import Writer

Activation = Callable[[Writer, str], str]

# (alpha, beta) where nothing is said, as onnxruntime has them; None for what the function does not take
_NUMBERS: dict[str, tuple[float | None, float | None]] = {
    "affine": (0.0, 0.0),
    "relu": (None, None),
    "leakyrelu": (0.01, None),
    "thresholdedrelu": (0.0, None),
    "tanh": (None, None),
    "scaledtanh": (0.0, 0.0),
    "sigmoid": (None, None),
    "hardsigmoid": (0.2, 0.5),
    "elu": (1.0, None),
    "softsign": (None, None),
    "softplus": (None, None),
}
_OPERATORS = {
    "relu": "Relu",
    "leakyrelu": "LeakyRelu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "hardsigmoid": "HardSigmoid",
    "elu": "Elu",
    "softsign": "Softsign",
    "softplus": "Softplus",
}


def activations(attributes: Mapping[str, Any], default: Sequence[str], directions: int) -> list[list[Activation]]:
    """Reads which functions a node uses.

    Args:
        attributes: of the node.
        default: names of the functions of one direction, where the node doesn't say.
        directions: number of directions.

    Returns:
        The functions of each direction. Each function that takes a number takes the next one that the node gives.
    """
    names = [name.decode().lower() for name in attributes.get("activations", ())] or list(default) * directions
    alphas, betas = iter(attributes.get("activation_alpha", ())), iter(attributes.get("activation_beta", ()))
    functions = [_function(name, alphas, betas) for name in names]
    count = len(default)
    return [functions[start : start + count] for start in range(0, directions * count, count)]


def _function(name: str, alphas: Iterator[float], betas: Iterator[float]) -> Activation:
    alpha, beta = _NUMBERS[name]
    alpha = alpha if alpha is None else next(alphas, alpha)
    beta = beta if beta is None else next(betas, beta)
    return lambda writer, x: _written(writer, x, name, alpha or 0.0, beta or 0.0)


def _written(writer: Writer, x: str, name: str, alpha: float, beta: float) -> str:
    if name in _OPERATORS:
        numbers = zip(("alpha", "beta"), _NUMBERS[name], (alpha, beta), strict=True)
        taken: dict[str, Any] = {number: value for number, default, value in numbers if default is not None}
        return writer.add(_OPERATORS[name], x, **taken)
    if name == "thresholdedrelu":
        # at the threshold itself too, other than the operator of that name
        below = writer.add("Less", x, writer.number(alpha))
        return writer.add("Mul", x, writer.cast(writer.add("Not", below), None))
    if name == "scaledtanh":
        return writer.add("Mul", writer.add("Tanh", writer.add("Mul", x, writer.number(beta))), writer.number(alpha))
    return writer.add("Add", writer.add("Mul", x, writer.number(alpha)), writer.number(beta))
