"""A small capture as bytes, put together from the protocol alone: what a client of any language would send."""

from __future__ import annotations

import numpy as np

from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import tensor_pb2 as tensor_pb

METHOD = "/onnxscope.v1.CaptureService/CaptureSmall"
AT = "relu3"


def image() -> np.ndarray:
    """Returns one row for the digits CNN: float32 [1, 1, 8, 8]."""
    return np.random.default_rng(0).random((1, 1, 8, 8), np.float32)


def request(digest: str) -> bytes:
    """Returns the one message that asks the digits CNN for the hook point `AT` of one row."""
    row = image()
    spec = capture_pb.CaptureSpec(model=digest, selectors=[AT], outputs=capture_pb.OUTPUT_MODE_INSTRUMENTED)
    array = tensor_pb.ArrayLayout(data_type=tensor_pb.DATA_TYPE_FLOAT32, shape=row.shape, byte_count=row.nbytes)
    start = tensor_pb.ValueStart(
        role=tensor_pb.VALUE_ROLE_INPUT,
        name="image",
        layout=tensor_pb.ValueLayout(array=array),
        data=row.tobytes(),
    )
    request = capture_pb.CaptureSmallRequest(spec=spec, inputs=[tensor_pb.ValuePart(start=start)])
    return request.SerializeToString()
