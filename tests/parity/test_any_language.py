"""A client that has nothing but the server's address: buf's own, which learns the protos through reflection."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxscope

BUF = Path(sys.executable).parent / "buf"


def _call(target: str, method: str, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """Calls a method with JSON; buf curl gets its schema from the server."""
    command = [BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "-d", "@-"]
    done = subprocess.run(
        [*command, f"http://{target}/onnxscope.v1.{method}"],
        input="\n".join(json.dumps(message) for message in messages),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    decoder, at, answers = json.JSONDecoder(), 0, []
    while at < len(done.stdout.rstrip()):
        answer, end = decoder.raw_decode(done.stdout, at)
        answers.append(answer)
        at = end + 1
    return answers


@pytest.fixture
def loaded(server: str, chain: bytes) -> str:
    """A model on the server, brought there by the Python client."""
    with onnxscope.connect(server) as scope:
        return scope.load(chain, name="chain").digest


def test_list_capture_and_read_a_tensor(server: str, loaded: str) -> None:
    """Hook points are listed, an input sent in one message, and an activation read from its bytes."""
    (listed,) = _call(server, "ModelService/ListHookPoints", {"model": loaded})
    assert [point["address"] for point in listed["hookPoints"]] == ["a", "b", "y"]
    x = np.array([[-5.0, 0.0, 5.0]], np.float32)
    start = {
        "role": "VALUE_ROLE_INPUT",
        "name": "x",
        "layout": {"array": {"dataType": "DATA_TYPE_FLOAT32", "shape": ["1", "3"], "byteCount": "12"}},
        "data": base64.b64encode(x.tobytes()).decode(),
    }
    request = {"spec": {"model": loaded, "selectors": ["b"]}, "inputs": [{"start": start}]}
    events = [event for answer in _call(server, "CaptureService/Capture", request) for event in answer["events"]]
    assert [next(iter(event)) for event in events] == ["plan", "value", "value", "completed"]
    value = events[1]["value"]["start"]
    assert value["name"] == "b"
    shape = [int(size) for size in value["layout"]["array"]["shape"]]
    array = np.frombuffer(base64.b64decode(value["data"]), np.float32).reshape(shape)
    assert array.tolist() == [[0.0, 1.0, 6.0]]


def test_a_model_goes_up_without_reading_the_answers(server: str, parsed: Any) -> None:
    """`start` and the chunks may be sent in one go."""
    model = parsed('<ir_version: 9, opset_import: ["" : 18]> lone (float[1] x) => (float[1] y) { y = Neg(x) }')
    digest = hashlib.sha256(model).hexdigest()
    answers = _call(
        server,
        "ModelService/UploadModel",
        {"start": {"graphDigest": digest, "graphByteCount": len(model), "name": "from-afar"}},
        {"chunk": {"data": base64.b64encode(model).decode()}},
    )
    assert answers[-1]["completed"]["model"]["digest"] == digest
