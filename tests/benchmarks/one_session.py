"""A process with one plain session of the transformer: runs it once and prints the bytes it holds then."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
from tests.benchmarks.process import Process

if __name__ == "__main__":
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    session.run(None, {"x": np.zeros((8, 32, 768), np.float32)})
    print(Process().share())
