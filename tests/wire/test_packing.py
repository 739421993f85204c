"""What a result sends, in which order."""

from __future__ import annotations

import numpy as np
from tests.messages import message

from onnxscope.v1 import codec
from onnxscope.v1 import tensor_pb2 as pb
from onnxscope_server.result_domain import Result
from onnxscope_server.wire.packing import value_parts


def test_activations_come_first_then_scalings_then_outputs() -> None:
    """Each with its role, and in pieces of at most a chunk."""
    large = np.zeros(codec.CHUNK_BYTES + 1, np.uint8)
    parts = list(value_parts(Result({"a": large, "b": large[:1]}, {"y": large[:2]}, {"s": large[:3]})))
    sent = [message(part) for part in parts]
    assert [(one.start.role, one.start.name) if one.HasField("start") else one.chunk.offset for one in sent] == [
        (pb.VALUE_ROLE_ACTIVATION, "a"),
        codec.CHUNK_BYTES,
        (pb.VALUE_ROLE_ACTIVATION, "b"),
        (pb.VALUE_ROLE_SCALING, "s"),
        (pb.VALUE_ROLE_OUTPUT, "y"),
    ]
    assert [len(part.data) for part in parts] == [codec.CHUNK_BYTES, 1, 1, 3, 2]


def test_nothing_is_copied_before_it_is_sent() -> None:
    """The pieces of all but small values are views of the result's arrays."""
    array = np.zeros(10_000, np.float32)
    (part,) = value_parts(Result({"a": array}, {}))
    array[0] = 1
    assert bytes(part.data) == array.tobytes()
