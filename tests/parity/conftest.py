"""A model whose probes are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from onnx import parser
from tests.served_probes import Keeper

import onnxscope


@pytest.fixture
def keeper(scope: onnxscope.Scope, request: pytest.FixtureRequest) -> Callable[[Any], Keeper]:
    """Loads a model, from text, a file or a message, and keeps its probes; those of tests before are gone."""

    def make(source: Any) -> Keeper:
        proto = parser.parse_model(source) if isinstance(source, str) else source
        embedded = request.node.callspec.params["scope"] == "embedded"
        keeper = Keeper(scope, scope.load(proto).digest, None if embedded else request.getfixturevalue("server"))
        for probe in keeper.call("ListProbes").probes:
            keeper.call("DeleteProbe", name=probe.name)
        return keeper

    return make
