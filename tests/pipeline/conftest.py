"""Chains of segments that tests run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from onnx import parser
from tests.cut_everywhere import cut_everywhere

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import CaptureSpec, OutputMode, Plan
from onnxscope_server.plan.planner import plan as make_plan
from onnxscope_server.rewrite.build import build_segments
from onnxscope_server.run.chain import Chain
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.session import Session


@pytest.fixture(scope="session")
def chain_of() -> Callable[..., tuple[Chain, Plan]]:
    """Makes a chain of as many segments as can be from ONNX's text form, with the plan that it serves."""

    def make(text: str, *selectors: str, **rest: Any) -> tuple[Chain, Plan]:
        proto = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> g {text}')
        model = CatalogModel.from_bytes(proto.SerializeToString())
        spec = CaptureSpec("model", selectors=selectors or ("*",), outputs=OutputMode.INSTRUMENTED, **rest)
        plan = make_plan(model, spec)
        with cut_everywhere():
            return Chain(build_segments(model, plan), Opening(intra_op_threads=1), exact=False), plan

    return make


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The outputs of every run, in order."""
    seen: list[tuple[str, ...]] = []
    original = Session.run_on

    def noting(self: Session, feeds: Any, fetches: Any, *rest: Any) -> Any:
        seen.append(tuple(fetches))
        return original(self, feeds, fetches, *rest)

    monkeypatch.setattr(Session, "run_on", noting)
    return seen
