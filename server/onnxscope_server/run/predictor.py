"""Runs a probe's file on activations at hand."""

from __future__ import annotations

import numpy as np

from onnxscope_server.domain import Array
from onnxscope_server.probe_domain import Predictor
from onnxscope_server.run.failures import run_failure
from onnxscope_server.run.opening import Opening


def predictor(opening: Opening) -> Predictor:
    """Returns what runs probes as the server's sessions run them.

    Args:
        opening: how the server opens sessions.
    """

    def predict(onnx: bytes, activations: Array) -> dict[str, Array]:
        session = opening.open(onnx, None, exact=False)
        (given,) = session.get_inputs()
        names = [item.name for item in session.get_outputs()]
        try:
            made = session.run(names, {given.name: np.ascontiguousarray(activations, dtype=np.float32)})
        except Exception as error:
            raise run_failure(error, bound=False) from error
        return dict(zip(names, made, strict=True))

    return predict
