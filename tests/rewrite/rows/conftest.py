"""Runs of rows together and alone, for the tests of the proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import parser

from onnxscope_server.domain import RowAxis, Segment
from onnxscope_server.rewrite.rows import row_axes

Feeds = Mapping[str, np.ndarray]


@pytest.fixture(scope="session")
def segment_of():
    """Makes a segment from ONNX's text form or from a ModelProto: all that it gives is read."""

    def make(source: str | onnx.ModelProto) -> Segment:
        proto = parser.parse_model(source) if isinstance(source, str) else source
        return Segment(
            graph=proto.SerializeToString(),
            data_folder=None,
            captures={},
            outputs=tuple(item.name for item in proto.graph.output),
            inputs=tuple(item.name for item in proto.graph.input),
            masks={},
            node_count=len(proto.graph.node),
        )

    return make


@pytest.fixture(scope="session")
def proved():
    """Proves a segment for inputs, and checks by running that rows joined give what they give alone."""

    def check(segment: Segment, parts: Sequence[Feeds]) -> dict[str, RowAxis | None]:
        axes = row_axes(segment, {name: value.shape[1:] for name, value in parts[0].items()})
        check_by_running(segment, parts, axes)
        return axes

    return check


def check_by_running(segment: Segment, parts: Sequence[Feeds], axes: Mapping[str, RowAxis | None]) -> None:
    """Runs callers' rows alone, then joined, and compares each caller's share."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(segment.graph, options, providers=["CPUExecutionProvider"])
    names = list(dict.fromkeys(axes))
    alone = [session.run(names, dict(part)) for part in parts]
    whole = session.run(names, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    counts = [len(next(iter(part.values()))) for part in parts]
    for index, name in enumerate(names):
        start = 0
        for own, count in zip(alone, counts, strict=True):
            share = _share(whole[index], axes[name], start, start + count, sum(counts))
            _assert_same(share, own[index], name)
            start += count


def _share(value: Any, place: RowAxis | None, start: int, stop: int, total: int) -> Any:
    if place is None:
        return value
    if isinstance(value, list):
        assert len(value) == total
        return value[start:stop]
    assert value.shape[place.axis] == total * place.per_row
    return np.take(value, range(start * place.per_row, stop * place.per_row), place.axis)


def _assert_same(share: Any, own: Any, name: str) -> None:
    if isinstance(own, list):
        assert repr(share) == repr(own), name
    elif own.dtype.kind in "fc":
        np.testing.assert_allclose(
            share.astype(np.complex128), own.astype(np.complex128), rtol=1e-3, atol=1e-4, err_msg=name
        )
    else:
        np.testing.assert_array_equal(share, own, err_msg=name)
