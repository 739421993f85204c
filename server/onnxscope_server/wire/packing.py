"""Results -> the pieces in which their values travel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from onnxscope.v1 import codec, envelope
from onnxscope.v1 import tensor_pb2 as pb
from onnxscope_server.result_domain import Result, ValueKind
from onnxscope_server.wire.share import Share

_ROLES: Mapping[ValueKind, pb.ValueRole] = {
    "activations": pb.VALUE_ROLE_ACTIVATION,
    "scalings": pb.VALUE_ROLE_SCALING,
    "probes": pb.VALUE_ROLE_PROBE,
    "outputs": pb.VALUE_ROLE_OUTPUT,
}


def value_parts(result: Result, share: Share | None = None) -> Iterator[codec.Part]:
    """Yields the activations, scalings, results of probes and outputs of a result in pieces, which refer to its arrays.

    Args:
        result: what to send.
        share: of the call; what lies in its memory is given to the client, and must not be touched any more.
    """
    for kind, values in result.values.items():
        role = _ROLES[kind]
        lie = share.give(values) if share is not None else {}
        for name, value in values.items():
            location = lie.get(name)
            if location is not None and isinstance(value, np.ndarray):
                yield envelope.shared_part(role, name, value, location)
            else:
                yield from codec.parts(role, name, value)
