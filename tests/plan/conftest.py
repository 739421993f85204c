"""Models for the planner's tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from onnxscope_server.catalog.model import CatalogModel


@pytest.fixture(scope="session")
def encoder(parsed: Callable[[str], bytes]) -> CatalogModel:
    """Two inputs, words [row, position] and mask -> h [row, position, 4] -> y [row, position, 2]; c is a constant."""
    return CatalogModel.from_bytes(
        parsed("""
        <ir_version: 8, opset_import: ["" : 17]>
        encoder (int64[row, position] words, int64[row, position] mask, float[2] bias)
             => (float[row, position, 2] y, string[1] tag)
        <float[3, 4] table = {0,1,2,3,4,5,6,7,8,9,10,11}, float[4, 2] w = {1,2,3,4,5,6,7,8}, float[2] bias = {0, 0},
         string[1] label = {"l"}>
        {
            h = Gather(table, words)
            c = Neg(w)
            scores = MatMul(h, c)
            y = Add(scores, bias)
            tag = Identity(label)
        }""")
    )
