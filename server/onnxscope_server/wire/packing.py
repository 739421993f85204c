"""Results -> the pieces in which their values travel."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.v1 import codec
from onnxscope.v1 import tensor_pb2 as pb
from onnxscope_server.domain import Result
from onnxscope_server.wire import shared_values
from onnxscope_server.wire.share import Share


def value_parts(result: Result, share: Share | None = None) -> Iterator[codec.Part]:
    """Yields the activations, scalings and outputs of a result: where they lie in shared memory, or their pieces.

    Args:
        result: of a run; pieces refer to its arrays.
        share: what the call's client shares; None for nothing.
    """
    for role, values in (
        (pb.VALUE_ROLE_ACTIVATION, result.activations),
        (pb.VALUE_ROLE_SCALING, result.scalings),
        (pb.VALUE_ROLE_OUTPUT, result.outputs),
    ):
        for name, value in values.items():
            yield from shared_values.parts(role, name, value, share)
