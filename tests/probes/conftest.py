"""What tests of probes share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime
import pytest


@pytest.fixture
def predictor() -> Callable[[bytes, np.ndarray], Mapping[str, np.ndarray]]:
    """Runs a probe's ONNX file on activations, as the server does; checks it first."""

    def predict(data: bytes, activations: np.ndarray) -> Mapping[str, np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        results = session.run(names, {session.get_inputs()[0].name: activations})
        return dict(zip(names, results, strict=True))

    return predict
