"""A server as its operator meets it: a process that starts, serves, drains and comes back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import onnxscope
from onnxscope_server.api.health_check import serving

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _serve(*flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "onnxscope_server", *flags],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"},
    )


@contextmanager
def _process(*flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = _free_port()
    process = _serve("--port", str(port), "--drain-seconds", "0.5", *flags)
    target = f"127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while not serving(target):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < end
        yield process, target
    finally:
        process.kill()
        process.communicate()


def _health(target: str) -> int:
    with grpc.insecure_channel(target) as channel:
        return int(health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5).status)


def test_models_survive_a_restart(tmp_path: Path, chain: bytes) -> None:
    """What was uploaded is there again, and is not sent again, after SIGTERM and a new start."""
    flags = ("--data", str(tmp_path / "data"), "--http-port", "0")
    with _process(*flags) as (process, target):
        with onnxscope.connect(target) as scope:
            digest = scope.load(chain, name="chain").digest
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    with _process(*flags) as (_, target), onnxscope.connect(target) as scope:
        model = scope.load("chain")
        assert model.digest == digest
        assert model.run(np.zeros((1, 3), np.float32)).outputs["y"].tolist() == [[2, 2, 2]]


def test_draining_says_so_first_and_loses_no_call(tmp_path: Path, chain: bytes) -> None:
    """On SIGTERM health turns NOT_SERVING while calls still work, and a stream under way finishes."""
    with _process("--http-port", "0") as (process, target), onnxscope.connect(target) as scope:
        model = scope.load(chain)
        released = threading.Event()

        def batches() -> Iterator[np.ndarray]:
            yield np.zeros((1, 3), np.float32)
            released.wait(30)
            yield np.ones((1, 3), np.float32)

        stream = model.stream(batches(), at="b")
        assert next(stream)["b"].tolist() == [[1, 1, 1]]
        process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 10
        while _health(target) != NOT_SERVING:
            assert time.monotonic() < end
        released.set()
        assert [acts["b"].tolist() for acts in stream] == [[[2, 2, 2]]]
        assert process.wait(timeout=30) == 0


def test_models_of_the_folder_are_ready_when_health_says_so(tmp_path: Path, chain: bytes) -> None:
    """NAME.onnx, NAME/model.onnx and NAME/VERSION/model.onnx are served; a broken file stops nothing."""
    folder = tmp_path / "models"
    for path in ("flat.onnx", "plain/model.onnx", "many/1/model.onnx", "many/2/model.onnx"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(chain)
    (folder / "broken.onnx").write_bytes(b"no model")
    with _process("--models", str(folder), "--http-port", "0") as (_, target), onnxscope.connect(target) as scope:
        assert {(item.name, item.version) for item in scope.models()} == {
            ("flat", "1"),
            ("plain", "1"),
            ("many", "1"),
            ("many", "2"),
        }
        with pytest.raises(onnxscope.OnnxscopeError, match="folder"):
            scope.unload("flat")


def test_a_taken_port_is_a_clear_error() -> None:
    """A second server on a port says so and exits with 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = _serve("--port", str(taken.getsockname()[1]), "--http-port", "0")
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Choose another --port" in err


def test_a_taken_http_port_is_a_warning_unless_it_was_asked_for() -> None:
    """Metrics are no reason not to serve, but a port that the operator named is meant."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = _serve("--port", "0", "--http-port", port)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"cannot serve metrics on port {port}" in err


def test_metrics_count_calls(chain: bytes) -> None:
    """Calls and their reasons can be scraped."""
    port = _free_port()
    with _process("--http-port", str(port)) as (_, target), onnxscope.connect(target) as scope:
        scope.load(chain, name="chain")
        with pytest.raises(onnxscope.ModelNotFoundError):
            scope.load("nobody")
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    assert 'onnxscope_calls_total{method="/onnxscope.v1.ModelService/UploadModel",reason="OK"} 1.0' in text
    assert 'reason="MODEL_NOT_FOUND"' in text
    assert "onnxscope_models 1.0" in text


def test_metrics_tell_of_sessions(chain: bytes) -> None:
    """How many there are, what they take, and how often one had to be made."""
    port = _free_port()
    x = np.zeros((2, 3), np.float32)
    with _process("--http-port", str(port)) as (_, target), onnxscope.connect(target) as scope:
        model = scope.load(chain, name="chain")
        for address in ("a", "b", "a"):
            model.capture(x, at=address, outputs="instrumented")
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    told = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("onnxscope_"))
    assert (told["onnxscope_plans"], told["onnxscope_sessions"], told["onnxscope_sessions_made_total"]) == (
        "2.0",
        "2.0",
        "2.0",
    )
    assert (told["onnxscope_plan_hits_total"], told["onnxscope_plan_misses_total"]) == ("1.0", "2.0")
    assert told["onnxscope_plan_evictions_total"] == "0.0"
    assert float(told["onnxscope_session_bytes"]) > 0
    assert float(told["onnxscope_session_making_seconds_total"]) > 0


def test_unknown_providers_are_named() -> None:
    """A provider that this build lacks stops the start, with the ones that it has."""
    process = _serve("--port", "0", "--http-port", "0", "--providers", "NoSuchExecutionProvider")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "NoSuchExecutionProvider" in err
    assert "CPUExecutionProvider" in err
