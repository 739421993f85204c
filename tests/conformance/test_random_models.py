"""Random models with nested control flow and functions: outputs stay, and every value is the interpreter's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, assume, given, settings
from tests.conformance.expected import expected, is_known, same
from tests.conformance.interpreter import interpret
from tests.conformance.random_models import models

import onnxscope
from onnxscope_server.catalog import own_functions
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import CaptureSpec, OutputMode
from onnxscope_server.plan.planner import plan as make_plan
from onnxscope_server.rewrite.build import build
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.readings import outputs_read, read
from onnxscope_server.run.session import Session

_EXAMPLES = int(os.environ.get("ONNXSCOPE_RANDOM_MODELS", "40"))
_X = np.array([0.5, -1.0, 2.0], np.float32)


@pytest.fixture(scope="module")
def embedded() -> Iterator[onnxscope.Scope]:
    """An embedded server."""
    with onnxscope.local(intra_op_threads=1) as scope:
        yield scope


@settings(
    max_examples=_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(proto=models())
def test_rewriting_keeps_outputs_and_brings_every_value(embedded: onnxscope.Scope, proto: onnx.ModelProto) -> None:
    """Whatever is nested in whatever: all values at once are those of a plain interpreter, and outputs stay."""
    data = proto.SerializeToString()
    assume(_runs(data))
    places = CatalogModel.from_bytes(data).contents.places(expand=False)
    model = embedded.load(data, name="random")
    try:
        plain = model.run(_X)
        acts = model.capture(_X, at=list(places))
        own_functions.give(proto)
        record = interpret(proto, {"x": _X})
        for address, place in places.items():
            wanted = expected(record, place)
            assert is_known(wanted), address
            assert same(acts[address], wanted, rtol=1e-5, atol=1e-6), address
        assert same(acts.outputs["y"], plain.outputs["y"], rtol=0, atol=0)
        for address, got in _without_shapes(CatalogModel.from_bytes(data), list(places)).items():
            assert same(got, acts[address], rtol=1e-5, atol=1e-6), address
    finally:
        embedded.unload("random")


def _without_shapes(model: CatalogModel, addresses: list[str]) -> dict[str, Any]:
    """Captures values as one does whose shapes differ between iterations."""
    spec = CaptureSpec("random", selectors=tuple(addresses), outputs=OutputMode.NONE, exact=True)
    plan = replace(make_plan(model, spec), varying=True)
    segment = build(model, plan)
    fetches = [name for reading in segment.captures.values() for name in outputs_read(reading)]
    session = Session(segment, Opening(intra_op_threads=1), exact=True)
    values = session.run({"x": _X} if "x" in segment.inputs else {}, list(dict.fromkeys(fetches)))
    return {item.address: read(segment.captures[item.address], values, item.type) for item in plan.captures}


def _runs(data: bytes) -> bool:
    """Tells whether onnxruntime takes the model: it refuses some names that are in several scopes, but not all."""
    try:
        onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 -- onnxruntime has errors of many types, and no common one
        return False
    return True
