"""Models and sessions of the tests of run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TypeProto, helper
from tests.run.sharing_sessions import OPENING

from onnxscope_server.domain import Segment
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.session import Session
from onnxscope_server.run.sharing import Sharing


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a test that is a coroutine in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def _segment(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, TypeProto],
    outputs: dict[str, TypeProto | None],
    initializers: Sequence[onnx.TensorProto] = (),
) -> Segment:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_value_info(name, kind) for name, kind in inputs.items()],
        [
            helper.make_value_info(name, kind) if kind else onnx.ValueInfoProto(name=name)
            for name, kind in outputs.items()
        ],
        list(initializers),
    )
    opsets = [helper.make_opsetid("", 25), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=12)
    return Segment(model.SerializeToString(), None, {}, tuple(outputs), tuple(inputs), {}, len(nodes))


@pytest.fixture(scope="session")
def make_segment() -> Callable[..., Segment]:
    """Makes a segment: nodes, input types, output types (None: undeclared), initializers."""
    return _segment


@pytest.fixture(scope="session")
def make_session() -> Callable[..., Any]:
    """Makes an unoptimised session of a segment: nodes, input types, output types, initializers."""

    def make(*parts: Any, exact: bool = True) -> Session:
        return Session(_segment(*parts), Opening(intra_op_threads=1), exact=exact)

    return make


@pytest.fixture(scope="session")
def tensor() -> Callable[..., TypeProto]:
    """Makes the type of a tensor."""
    return lambda data_type, shape=None: helper.make_tensor_type_proto(int(data_type), shape)


@pytest.fixture(scope="session")
def endless(parsed: Callable[[str], bytes]) -> Any:
    """Runs on and on: n, x [2, 2] -> y = x after n times `x @ identity`: 2^60 trips never end."""
    graph = parsed(
        """<ir_version: 9, opset_import: ["" : 18]>
        endless (int64 n, float[2, 2] x) => (float[2, 2] y)
        <float[2, 2] w = {1.0, 0.0, 0.0, 1.0}>
        {
            y = Loop (n, , x) <body = trip (int64 i, bool go, float[2, 2] a) => (bool on, float[2, 2] b) {
                on = Identity(go)
                b = MatMul(a, w)
            }>
        }"""
    )
    segment = Segment(graph, None, {}, ("y",), ("n", "x"), {}, 1)
    return Session(segment, Opening(intra_op_threads=1), exact=True)


@pytest.fixture(scope="session")
def double(parsed: Callable[[str], bytes]) -> Segment:
    """Doubles: x [n] -> y = x + x."""
    graph = parsed(
        """<ir_version: 9, opset_import: ["" : 18]>
        double (float[n] x) => (float[n] y) { y = Add(x, x) }"""
    )
    return Segment(graph, None, {}, ("y",), ("x",), {}, 1)


@pytest.fixture
def sharing_of(tmp_path: Path) -> Callable[..., Sharing]:
    """Makes what shares the weights of segments, by digest."""

    def make(segments: dict[str, Segment], max_bytes: int = 1 << 40) -> Sharing:
        return Sharing(OPENING, tmp_path / "shared", segments.__getitem__, max_bytes=max_bytes)

    return make
