"""Results -> the pieces in which their values travel."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.v1 import codec
from onnxscope.v1 import tensor_pb2 as pb
from onnxscope_server.domain import Result


def value_parts(result: Result) -> Iterator[codec.Part]:
    """Yields the activations, scalings and outputs of a result in pieces, which refer to its arrays."""
    for role, values in (
        (pb.VALUE_ROLE_ACTIVATION, result.activations),
        (pb.VALUE_ROLE_SCALING, result.scalings),
        (pb.VALUE_ROLE_OUTPUT, result.outputs),
    ):
        for name, value in values.items():
            yield from codec.parts(role, name, value)
