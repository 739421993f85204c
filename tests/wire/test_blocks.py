"""Blocks that the client asks for, and blocks that nobody uses."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from onnxscope.v1 import tensor_pb2 as pb
from onnxscope.v1.codec import CodecError
from onnxscope.v1.sharing import Record
from onnxscope_server.domain import DataType
from onnxscope_server.result_domain import Destination
from onnxscope_server.wire import blocks as blocks_module
from onnxscope_server.wire.shared_memory import SharedMemory

MIB = 1 << 20


def test_a_block_is_lent_until_it_is_released(client: Any, memory: SharedMemory) -> None:
    """What the client writes there is read here; then others get it, and what there is no room for is not lent."""
    client.say(Record.WANTED, 0, 2 * MIB)
    kind, number, size = client.hear() or (0, 0, 0)
    assert (kind, size >= 2 * MIB) == (Record.BLOCK, True)
    assert client.hear() == (Record.LENT, number, 0)
    _, share = client.call()
    client.mapped[:4] = np.float32(1.5).tobytes()
    layout = pb.ArrayLayout(data_type=pb.DATA_TYPE_FLOAT32, shape=[1], byte_count=4)
    lies = pb.SharedBytes(block=number, byte_count=4)
    start = pb.ValueStart(name="x", layout=pb.ValueLayout(array=layout), shared=lies)
    assert share.held(start) == [1.5]
    for impossible in (0, 16 * MIB, (1 << 64) - 1):
        client.say(Record.WANTED, 0, impossible)
    client.say(Record.RELEASED, number)
    client.say(Record.WANTED, 0, 2 * MIB)
    assert client.hear() == (Record.LENT, number, 0)
    with pytest.raises(CodecError, match="does not hold"):
        share.held(pb.ValueStart(name="x", layout=start.layout, shared=pb.SharedBytes(block=number + 1, byte_count=4)))


def test_free_memory_gives_way_to_other_memory(
    client: Any, memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was free for a while, but for some, when a block of another size is made; what was just used stays."""
    monkeypatch.setattr(blocks_module, "_SPARE_BYTES", 2 * MIB)
    monkeypatch.setattr(blocks_module, "_SPARE_SECONDS", 0.1)
    _, share = client.call()
    ones = [share.empty(Destination(DataType.UINT8, (MIB,))) for _ in range(4)]
    del ones
    other = share.empty(Destination(DataType.UINT8, (MIB // 2,)))
    assert memory.byte_count == 4 * MIB + MIB // 2
    time.sleep(0.11)
    another = share.empty(Destination(DataType.UINT8, (MIB // 4,)))
    assert memory.byte_count == 2 * MIB + MIB // 2 + MIB // 4
    assert other is not None
    assert another is not None
