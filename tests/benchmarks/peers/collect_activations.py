"""onnxruntime's own collect_activations, from its quantisation tools. Arguments: MODEL ROWS BATCHES."""

import sys
import tempfile
from pathlib import Path

import turns
from onnxruntime.quantization.calibrate import CalibrationDataReader
from onnxruntime.quantization.qdq_loss_debug import collect_activations, modify_model_output_intermediate_tensors


class Reader(CalibrationDataReader):
    """Gives batches.

    Args:
        feeds: the batches.
    """

    def __init__(self, feeds):
        self._feeds = iter(feeds)

    def get_next(self):
        """Returns the next batch, None after the last."""
        return next(self._feeds, None)


if __name__ == "__main__":
    rows, batches = map(int, sys.argv[2:])
    feeds = [{turns.INPUT: turns.batch(rows)} for _ in range(batches)]
    with tempfile.TemporaryDirectory() as folder:
        augmented = str(Path(folder) / "augmented.onnx")
        modify_model_output_intermediate_tensors(sys.argv[1], augmented)

        def work():
            """Makes the session and runs the data set."""
            found = collect_activations(augmented, Reader(feeds))
            return [array for arrays in found.values() for array in arrays]

        turns.take(work)
