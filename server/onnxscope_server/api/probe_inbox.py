"""What a batch of rows to learn from may hold, by its roles."""

from __future__ import annotations

import numpy as np

from onnxscope.v1 import tensor_pb2 as tensor_pb
from onnxscope.v1.assemble import Received
from onnxscope_server.api.incoming import Inbox
from onnxscope_server.domain import Array, Value
from onnxscope_server.errors import ValueInvalidError
from onnxscope_server.pipeline.probing.batch import ProbeBatch

# what comes once a batch, under whatever name
_BESIDE = {
    tensor_pb.VALUE_ROLE_LABEL: "labels",
    tensor_pb.VALUE_ROLE_GROUP: "groups",
    tensor_pb.VALUE_ROLE_WEIGHT: "weights",
    tensor_pb.VALUE_ROLE_TEST: "test",
}


class ProbeInbox(Inbox[ProbeBatch]):
    """The inputs and masks of one batch, and what belongs to its rows; arguments as of `Inbox`."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._inputs: dict[str, Value] = {}
        self._masks: dict[str, Array] = {}
        self._beside: dict[str, Array] = {}

    def _put(self, received: Received) -> None:
        role, name, value = received.role, received.name, received.value
        if role == tensor_pb.VALUE_ROLE_INPUT:
            group: dict[str, Value] | dict[str, Array] = self._inputs
        elif role == tensor_pb.VALUE_ROLE_MASK:
            group = self._masks
        elif role in _BESIDE:
            group, name = self._beside, _BESIDE[role]
        else:
            raise ValueInvalidError(
                f"{name!r} has role {role}; callers send INPUT, MASK, LABEL, GROUP, WEIGHT and TEST", value=name
            )
        if name in group:
            raise ValueInvalidError(f"{name!r} was sent twice", value=name)
        if group is not self._inputs and not isinstance(value, np.ndarray):
            raise ValueInvalidError(f"{name!r} must be an array", value=name)
        group[name] = value  # type: ignore[assignment]  # checked above

    def _batch(self) -> ProbeBatch:
        return ProbeBatch(self._inputs, self._masks, **self._beside)
