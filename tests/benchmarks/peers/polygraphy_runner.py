"""Polygraphy's OnnxrtRunner: a session in this process. Arguments: MODEL ROWS BATCHES."""

import sys

import turns
from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx

if __name__ == "__main__":
    rows, batches = map(int, sys.argv[2:])
    x = turns.batch(rows)
    with OnnxrtRunner(SessionFromOnnx(turns.exposed(sys.argv[1]).SerializeToString())) as runner:
        turns.take(lambda: [array for _ in range(batches) for array in runner.infer({turns.INPUT: x}).values()])
