"""Sessions of a model share its weights, and give the same bits as sessions that do not."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from tests.run.sharing_sessions import OPENING, convolutions, exposing, gates, listed, opened, products, quantised, run

from onnxscope_server.catalog.weights import WEIGHTS_FILE
from onnxscope_server.domain import Segment
from onnxscope_server.run.heap import trim
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.session import Session
from onnxscope_server.run.sharing import Sharing, can_share

KINDS = [products, convolutions, gates, listed, quantised]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_sharing_changes_no_bit(kind: Any, exact: bool, tmp_path: Path, sharing_of: Callable[..., Sharing]) -> None:
    """Outputs are those of a session of its own, and so are what it declares and takes."""
    segment = kind(tmp_path)
    own = Session(segment, OPENING, exact=exact)
    shared = opened(sharing_of({"d": segment}), segment, exact=exact)
    assert run(shared) == run(own)
    assert (shared.inputs, shared.optional_inputs, shared.outputs) == (own.inputs, own.optional_inputs, own.outputs)


def test_every_session_of_a_plan_gives_the_same_bits(tmp_path: Path, sharing_of: Callable[..., Sharing]) -> None:
    """Before weights are packed and after, made again, and when they were deleted in between."""
    segment = convolutions(tmp_path)
    watched = exposing(segment, "conv1", "norm2", "relu0")
    before = run(Session(watched, OPENING, exact=False))
    sharing = sharing_of({"d": segment})
    seen = [run(opened(sharing, watched)) for _ in range(2)]
    sharing.forget("d")
    seen.append(run(opened(sharing, watched)))
    assert seen == [before] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("kind", [products, convolutions, gates, quantised])
def test_weights_are_in_memory_once(kind: Any, tmp_path: Path, sharing_of: Callable[..., Sharing]) -> None:
    """Ten more sessions take less memory of their own than the weights of one."""
    segment = kind(tmp_path)
    sharing = sharing_of({"d": segment})
    kept = [opened(sharing, segment)]
    run(kept[0])
    before = anonymous()
    kept += [opened(sharing, segment) for _ in range(10)]
    for session in kept:
        run(session)
    grown = anonymous() - before
    assert grown < (tmp_path / "data" / WEIGHTS_FILE).stat().st_size


def anonymous() -> int:
    """Bytes of memory of this process that no file stands behind."""
    gc.collect()
    trim()
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def test_small_models_hold_their_own(
    tmp_path: Path, double: Segment, sharing_of: Callable[..., Sharing], caplog: pytest.LogCaptureFixture
) -> None:
    """There is nothing to gain, and nothing is said about it."""
    assert sharing_of({"d": double}).placed("d", double, exact=False) is None
    assert caplog.text == ""


def test_not_every_opening_can_share() -> None:
    """An application's own options may bring weights, and other providers have memory of their own."""
    assert can_share(OPENING)
    assert not can_share(Opening(session_options=onnxruntime.SessionOptions()))
    assert not can_share(Opening(providers=("AzureExecutionProvider", "CPUExecutionProvider")))
