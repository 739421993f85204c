"""Messages of values, made with the generated classes alone."""

from __future__ import annotations

from onnxscope.v1 import codec
from onnxscope.v1 import tensor_pb2 as pb


def message(part: codec.Part) -> pb.ValuePart:
    """Returns the message of a piece of a value."""
    header = part.header
    if header is None:
        return pb.ValuePart(chunk=pb.ValueChunk(offset=part.offset, data=bytes(part.data)))
    made = pb.ValuePart(start=pb.ValueStart.FromString(header) if isinstance(header, bytes) else header)
    made.start.data = bytes(part.data)
    return made


def messages(role: pb.ValueRole, name: str, value: codec.Value) -> list[pb.ValuePart]:
    """Returns the messages of a value."""
    return [message(part) for part in codec.parts(role, name, value)]
