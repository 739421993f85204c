"""Polygraphy's Comparator: runs a data set and keeps every output. Arguments: MODEL ROWS BATCHES."""

import sys

import turns
from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
from polygraphy.comparator import Comparator
from polygraphy.logger import G_LOGGER

if __name__ == "__main__":
    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    rows, batches = map(int, sys.argv[2:])
    feeds = [{turns.INPUT: turns.batch(rows)} for _ in range(batches)]
    runner = OnnxrtRunner(SessionFromOnnx(turns.exposed(sys.argv[1]).SerializeToString()))

    def work():
        """Runs the data set; the runner makes its session when it begins."""
        ((_, results),) = Comparator.run([runner], data_loader=feeds)
        return [array for result in results for array in result.values()]

    turns.take(work)
