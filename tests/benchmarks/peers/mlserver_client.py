"""MLServer with a runtime of a few lines, asked through tritonclient. Arguments: MODEL ROWS BATCHES."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
import turns

SECONDS = 60


def settings(folder, path):
    """Writes what MLServer reads; returns its gRPC port."""
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
        http, grpc = (free.getsockname()[1] for free in (one, other))
    # without workers it needs not hand arrays from process to process
    server = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "grpc_max_message_length": -1,
        "metrics_endpoint": None,
        "debug": False,
        "parallel_workers": 0,
    }
    (folder / "settings.json").write_text(json.dumps(server))
    model = {"name": "cnn", "implementation": "mlserver_runtime.Exposed", "parameters": {"uri": path}}
    (folder / "model-settings.json").write_text(json.dumps(model))
    return grpc


if __name__ == "__main__":
    rows, batches = map(int, sys.argv[2:])
    x = triton.InferInput(turns.INPUT, [rows, 3, 32, 32], "FP32")
    x.set_data_from_numpy(turns.batch(rows))
    with tempfile.TemporaryDirectory() as name:
        port = settings(Path(name), str(Path(sys.argv[1]).resolve()))
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("mlserver")), "start", name],
            stdout=2,
            cwd=name,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        )
        client = triton.InferenceServerClient(f"127.0.0.1:{port}")

        def ready():
            """Tells whether the model can be asked."""
            try:
                return client.is_model_ready("cnn")
            except triton.InferenceServerException:
                return False

        def ask():
            """Returns the arrays of one answer."""
            answer = client.infer("cnn", [x])
            return [np.asarray(answer.as_numpy(item.name)) for item in answer.get_response().outputs]

        try:
            end = time.monotonic() + SECONDS
            while not ready():
                if process.poll() is not None or time.monotonic() > end:
                    sys.exit("MLServer did not start")
                time.sleep(0.1)
            turns.take(lambda: [array for _ in range(batches) for array in ask()])
        finally:
            process.terminate()
            process.wait()
