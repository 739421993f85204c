"""onnxruntime in its environment: no telemetry, no noise, and known providers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onnxscope_server.domain import Segment
from onnxscope_server.errors import ProviderUnavailableError
from onnxscope_server.run.environment import check_providers

_PROGRAM = """
import sys
from onnxscope_server.domain import Segment
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.session import Session
import numpy as np
graph = bytes.fromhex(sys.argv[1])
session = Session(Segment(graph, None, {}, ("y",), ("x",), {}, 1), Opening(), exact=False)
assert session.run({"x": np.ones(2, np.float32)}, ["y"])["y"].tolist() == [2.0, 2.0]
"""
_THREADS = """
import os, sys
from onnxscope_server.run.environment import share_threads
from onnxscope_server.domain import Segment
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.session import Session
import numpy as np
segment = Segment(bytes.fromhex(sys.argv[1]), None, {}, ("y",), ("x",), {}, 1)
before = len(os.listdir("/proc/self/task"))
if sys.argv[2] == "shared":
    share_threads(4)
sessions, counts = [], []
for _ in range(3):
    sessions.append(Session(segment, Opening(intra_op_threads=4), exact=False))
    assert sessions[-1].run({"x": np.ones(100_000, np.float32)}, ["y"])["y"].sum() == 200_000
    counts.append(len(os.listdir("/proc/self/task")) - before)
print(*counts)
"""


@pytest.mark.parametrize(("how", "counts"), [("shared", "3 3 3"), ("own", "3 6 9")])
def test_sessions_share_their_threads_where_they_are_to(double: Segment, how: str, counts: str) -> None:
    """Of 4 threads one is the caller's: three sessions have 3 more between them, or 3 more each."""
    done = subprocess.run(
        [sys.executable, "-c", _THREADS, double.graph.hex(), how],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == counts


def test_nothing_is_written_home_and_nothing_on_stdout(double: Segment, tmp_path: Path) -> None:
    """Importing onnxruntime and running a session leaves no file in a new home folder, CI or not."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    mine = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_DATA_HOME")
    variables = {name: value for name, value in os.environ.items() if name not in mine}
    done = subprocess.run(
        [sys.executable, "-B", "-c", _PROGRAM, double.graph.hex()],
        env=variables | {"HOME": str(home)},
        cwd=work,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert [*home.rglob("*"), *work.rglob("*")] == []


def test_providers_of_this_build_pass() -> None:
    """The CPU is always there."""
    check_providers(["CPUExecutionProvider"])


def test_missing_provider_names_those_there_are() -> None:
    """The error names the provider that is missing and what there is instead."""
    with pytest.raises(ProviderUnavailableError, match="no execution provider 'QuantumProvider'") as raised:
        check_providers(["CPUExecutionProvider", "QuantumProvider"])
    assert raised.value.metadata["provider"] == "QuantumProvider"
    assert "CPUExecutionProvider" in raised.value.metadata["available"]
