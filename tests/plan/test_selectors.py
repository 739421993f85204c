"""Selectors choose exactly what DESIGN.md says."""

from __future__ import annotations

import time

import pytest

from onnxscope_server.catalog.description import HookPoint, Kind
from onnxscope_server.domain import DataType, TensorType
from onnxscope_server.errors import HookPointNotFoundError, SelectorInvalidError
from onnxscope_server.plan.selectors import select


def point(address, kind=Kind.ACTIVATION, op="Relu", depth=0.5, data_type=DataType.FLOAT32):
    """Makes a hook point."""
    return HookPoint(address, op, TensorType(data_type, (1,)), depth, kind)


POINTS = (
    point("x", Kind.INPUT, "", 0.0),
    point("w", Kind.WEIGHT, "", 0.0),
    point("scale", Kind.CONSTANT, "Mul", 0.0),
    point("block1/conv", op="Conv", depth=0.2),
    point("block1/relu", depth=0.4),
    point("block2/conv", op="Conv", depth=0.6, data_type=DataType.BFLOAT16),
    point("onnx::Gelu_8", op="com.microsoft:Gelu", depth=0.8),
    point("a*[b]", depth=0.9),
    point("y", Kind.OUTPUT, "Gemm", 1.0),
    point("kept", Kind.OUTPUT, "", 0.0),
)
COMPUTED = ["block1/conv", "block1/relu", "block2/conv", "onnx::Gelu_8", "a*[b]", "y"]


def chosen(*selectors, points=POINTS):
    """The addresses that selectors choose."""
    return [found.address for found in select(points, selectors)]


@pytest.mark.parametrize(
    ("selectors", "addresses"),
    [
        (["*"], COMPUTED),
        (["x"], ["x"]),
        (["w", "scale"], ["w", "scale"]),
        (["block1/*"], ["block1/conv", "block1/relu"]),
        (["block?/conv"], ["block1/conv", "block2/conv"]),
        (["*Gelu*"], ["onnx::Gelu_8"]),
        (["a*[b]"], ["a*[b]"]),
        (["*[b]"], ["a*[b]"]),
        (["re:block[12]/conv"], ["block1/conv", "block2/conv"]),
        (["re:.*/relu"], ["block1/relu"]),
        (["op:Conv"], ["block1/conv", "block2/conv"]),
        (["op:com.microsoft:Gelu"], ["onnx::Gelu_8"]),
        (["op:ai.onnx:Gemm"], ["y"]),
        (["depth:0.2..0.4"], ["block1/conv", "block1/relu"]),
        (["depth:.9.."], ["a*[b]", "y"]),
        (["depth:..0.2"], ["block1/conv"]),
        (["type:bfloat16"], ["block2/conv"]),
        (["kind:constant"], ["scale"]),
        (["kind:input", "kind:weight"], ["x", "w"]),
        (["kind:output"], ["y", "kept"]),
        (["!op:Conv"], ["block1/relu", "onnx::Gelu_8", "a*[b]", "y"]),
        (["*", "!depth:0.5..1"], ["block1/conv", "block1/relu"]),
        (["block1/*", "!*conv", "x"], ["block1/relu", "x"]),
        (["y", "*", "!y", "y"], ["block1/conv", "block1/relu", "block2/conv", "onnx::Gelu_8", "a*[b]", "y"]),
        (["y", "op:Conv", "y"], ["y", "block1/conv", "block2/conv"]),
        ([], []),
    ],
)
def test_selectors_choose(selectors, addresses):
    """By selector, in the model's order, each hook point once."""
    assert chosen(*selectors) == addresses


def test_an_exact_address_wins_over_every_other_reading():
    """Values may be called like selectors."""
    odd = (point("re:("), point("!x"), point("op:Relu"), point("*"), point("depth:high"), point("plain"))
    for hook_point in odd:
        assert chosen(hook_point.address, points=odd) == [hook_point.address]


@pytest.mark.parametrize(
    ("selector", "closest"),
    [
        ("block1/rely", "block1/relu"),
        ("!block2/con", "block2/conv"),
        ("Y", "y"),
        ("op:Conf", "op:Conv"),
        ("block9*", "block1/"),
        ("kind:unused", ""),
        ("depth:0.95..0.96", ""),
    ],
)
def test_what_matches_nothing_names_the_closest(selector, closest):
    """A typing error, in an address or in a pattern, is told with what was probably meant."""
    with pytest.raises(HookPointNotFoundError) as caught:
        chosen(selector)
    assert closest in caught.value.metadata["closest"]
    assert caught.value.metadata["selector"] == selector.removeprefix("!")


def test_taking_away_what_is_not_chosen_is_no_error():
    """Only a selector that matches nothing of the model is."""
    assert chosen("op:Conv", "!x", "!block1/relu") == ["block1/conv", "block2/conv"]


@pytest.mark.parametrize(
    "selector",
    ["re:(", "depth:high", "depth:0.5", "depth:1..0", "depth:...", "type:float", "kind:layer", "", "!", "a" * 2001],
)
def test_what_cannot_be_read_is_refused(selector):
    """The error says why."""
    with pytest.raises(SelectorInvalidError):
        chosen(selector)


def test_globs_of_many_stars_end():
    """A pattern that makes naive matching run for years is answered at once."""
    start = time.perf_counter()
    with pytest.raises(HookPointNotFoundError):
        chosen("*a" * 40 + "b", points=(point("a" * 400),))
    assert time.perf_counter() - start < 1


def test_an_expression_that_never_ends_is_ended():
    """Nested repetitions cost the caller an error, and nobody else anything."""
    address = "a" * 60 + "b"
    points = [HookPoint(address, "Relu", None, 0.5, Kind.ACTIVATION)]
    with pytest.raises(SelectorInvalidError, match="nest no repetitions"):
        select(points, ["re:(a|aa)+c"])
