"""What one writes in an afternoon: a gRPC stream of 1 MiB chunks. Arguments: MODEL ROWS BATCHES."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import onnxruntime
import turns

SERVICE = "bench.Naive"
METHOD = f"/{SERVICE}/Run"
CHUNK = 1 << 20


def serve(path):
    """Serves a model: a batch in, a header and chunks of each value out."""
    session = onnxruntime.InferenceSession(turns.exposed(path).SerializeToString(), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]

    def run(request, context):
        x = np.frombuffer(request, np.float32).reshape(-1, 3, 32, 32)
        for name, value in zip(names, session.run(names, {turns.INPUT: x}), strict=True):
            yield json.dumps({"name": name, "shape": value.shape, "bytes": value.nbytes}).encode()
            data = memoryview(value).cast("B")
            for start in range(0, len(data), CHUNK):
                yield bytes(data[start : start + CHUNK])

    handler = grpc.method_handlers_generic_handler(SERVICE, {"Run": grpc.unary_stream_rpc_method_handler(run)})
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    turns.say(port)
    sys.stdin.read()


def receive(answers):
    """Returns the arrays of one answer."""
    arrays = []
    for message in answers:
        header = json.loads(message)
        data = bytearray()
        while len(data) < header["bytes"]:
            data += next(answers)
        arrays.append(np.frombuffer(data, np.float32).reshape(header["shape"]))
    return arrays


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
        sys.exit()
    rows, batches = map(int, sys.argv[2:])
    x = turns.batch(rows)
    server = subprocess.Popen(
        [sys.executable, __file__, sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with server, grpc.insecure_channel(f"127.0.0.1:{int(server.stdout.readline())}") as channel:
        call = channel.unary_stream(METHOD)
        turns.take(lambda: [array for _ in range(batches) for array in receive(call(x.tobytes()))])
        server.stdin.close()
