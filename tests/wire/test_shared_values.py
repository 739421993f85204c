"""Values of a result in shared memory, and what the client is told of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from tests.messages import message
from tests.wire.giving import give

from onnxscope_server.domain import DataType
from onnxscope_server.result_domain import Destination, Result
from onnxscope_server.wire.packing import value_parts
from onnxscope_server.wire.share import Share
from onnxscope_server.wire.shared_values import placed

SHAPE = (256, 1024)


def _made(share: Share, value: float = 1.0) -> Any:
    made = share.empty(Destination(DataType.FLOAT32, SHAPE))
    assert made is not None
    made[:] = value
    return made


def test_values_of_a_result_are_told_where_they_lie(client: Any) -> None:
    """In a block already, copied into one, or in the message; what lies in one block twice is copied once."""
    _, share = client.call()
    bound = _made(share, 7.0)
    other = np.full(SHAPE, 3, np.float32)
    small = np.arange(3)
    result = Result({"bound": bound, "half": bound[:128], "other": other, "small": small}, {"y": bound})
    result = asyncio.run(placed(result, share))
    starts = [message(part).start for part in value_parts(result, share)]
    shared = {start.name: start.shared.block for start in starts if start.shared.block}
    assert set(shared) == {"bound", "half", "other", "y"}
    assert len(set(shared.values())) == 4
    assert [start.data for start in starts if start.name == "small"] == [small.tobytes()]
    np.testing.assert_array_equal(result.outputs["y"], np.full(SHAPE, 7, np.float32))
    assert not np.may_share_memory(result.outputs["y"], bound)


def test_lists_never_point_to_what_is_given(client: Any) -> None:
    """An array of which a list holds a part is copied: the list's bytes are read after the array was given."""
    _, share = client.call()
    bound = _made(share)
    result = asyncio.run(placed(Result({"whole": bound, "list": [bound[:1], bound[1:]]}, {}), share))
    assert not np.may_share_memory(result.activations["whole"], bound)


def test_without_room_a_shared_value_is_copied_elsewhere(client: Any) -> None:
    """Two values in one block and no other block: the second is the server's own, and travels in messages."""
    _, share = client.call()
    held = [_made(share) for _ in range(8)]
    bound = held.pop()
    result = asyncio.run(placed(Result({"a": bound, "b": bound}, {}), share))
    assert share.block_of(result.activations["a"]) is not None
    assert not np.may_share_memory(result.activations["b"], bound)
    messages = [message(part) for part in value_parts(result, share)]
    assert [bool(made.start.shared.block) for made in messages if made.HasField("start")] == [True, False]


def test_noncontiguous_arrays_are_copied(client: Any) -> None:
    """They are given in C order."""
    _, share = client.call()
    bound = _made(share)
    bound[:] = np.arange(bound.size, dtype=np.float32).reshape(SHAPE)
    result = asyncio.run(placed(Result({"t": bound.T}, {}), share))
    assert give(share, bound.T) is None
    made: Any = result.activations["t"]
    assert made.flags.c_contiguous
    np.testing.assert_array_equal(made, bound.T)


def test_a_call_that_is_still_known_keeps_no_memory_of_a_client_that_has_gone(client: Any) -> None:
    """What was given and never taken is unmapped, however long somebody refers to the call."""
    before = _mapped()
    _, share = client.call()
    assert give(share, _made(share)) is not None
    assert _mapped() > before
    share._connection.close()
    assert _mapped() <= before


def _mapped() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:onnxscope")
