"""Every setting is a flag and an environment variable, and a wrong one says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import CliApp

from onnxscope_server import settings as settings_module
from onnxscope_server.__main__ import main
from onnxscope_server.settings import EmbeddedSettings, Settings

VALUES = {
    "host": "0.0.0.0",
    "port": "9001",
    "http_port": "9002",
    "models": "FOLDER",
    "data": "FOLDER",
    "providers": "AExecutionProvider,CPUExecutionProvider",
    "custom_ops": "FILE",
    "run_threads": "3",
    "intra_op_threads": "4",
    "max_waiting_runs": "5",
    "max_sessions": "6",
    "session_bytes": "10000000",
    "shared_weights_bytes": "11000000",
    "max_model_bytes": "7",
    "max_input_bytes": "8",
    "memory_budget": "9000000",
    "shared_memory_bytes": "10000",
    "max_batch_rows": "8",
    "batch_delay_seconds": "0.25",
    "drain_seconds": "0.5",
    "grace_seconds": "2.5",
    "token": "secret",
    "tls_cert": "FILE",
    "tls_key": "FILE",
    "tls_client_ca": "FILE",
    "log_level": "debug",
}
TLS = ("tls_cert", "tls_key", "tls_client_ca")


@pytest.mark.parametrize("name", VALUES)
def test_flag_and_variable_say_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting can be given as --flag and as ONNXSCOPE_VARIABLE, with one meaning."""
    (tmp_path / "file").touch()
    value = {"FOLDER": str(tmp_path), "FILE": str(tmp_path / "file")}.get(VALUES[name], VALUES[name])
    names = TLS if name in TLS else (name,)
    flags = [text for each in names for text in (f"--{each.replace('_', '-')}", value)]
    by_flag = CliApp.run(Settings, cli_args=flags)
    for each in names:
        monkeypatch.setenv(f"ONNXSCOPE_{each.upper()}", value)
    by_variable = CliApp.run(Settings, cli_args=[])
    assert by_flag == by_variable
    assert by_flag != Settings.model_construct()
    assert by_flag.model_fields_set == set(names)


def test_every_setting_is_tried() -> None:
    """The table above leaves out no setting."""
    assert set(VALUES) == set(Settings.model_fields)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--port", "70000"], "port"),
        (["--models", "/nowhere"], "there is no folder /nowhere"),
        (["--custom-ops", "/nowhere.so"], "there is no file /nowhere.so"),
        (["--tls-cert", "x.pem"], "tls_cert and tls_key go together"),
        (["--providers", ""], "providers"),
    ],
)
def test_a_wrong_setting_is_named(flags: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The server doesn't start, exits with 2 and says which setting is wrong."""
    assert main(flags) == 2
    assert text in capsys.readouterr().err


def test_an_embedded_server_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is meant for a server on this machine doesn't change a library call."""
    monkeypatch.setenv("ONNXSCOPE_RUN_THREADS", "77")
    assert EmbeddedSettings().run_threads != 77


def test_unknown_settings_are_refused() -> None:
    """A misspelt keyword is no silent default."""
    with pytest.raises(ValidationError):
        EmbeddedSettings(prot=3)


@pytest.mark.parametrize(
    ("cores", "usable", "quota", "runs", "threads", "shares"),
    [
        (2, 2, "max 100000", 2, 0, False),
        (8, 8, "max 100000", 2, 0, False),
        (64, 64, "max 100000", 8, 0, True),
        (64, 4, "max 100000", 2, 4, False),
        (64, 64, "250000 100000", 2, 3, False),
        (64, 64, "3200000 100000", 4, 32, True),
        (2, 2, "6400000 100000", 2, 0, False),
    ],
)
def test_runs_and_threads_are_sized_by_the_cores_that_the_process_may_use(
    monkeypatch, tmp_path, cores, usable, quota, runs, threads, shares
):
    """Those of the machine, of the process (taskset, --cpuset-cpus) or of the container's quota, whichever are fewer.

    onnxruntime's own count, 0, is taken only where it is right: it counts the machine's.
    """
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    monkeypatch.setattr(settings_module, "_CONTAINER_CORES", file)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(usable)))
    chosen = EmbeddedSettings()
    assert chosen.run_threads_chosen == runs
    assert chosen.intra_op_threads_chosen == threads
    assert chosen.shares_threads is shares


def test_threads_that_somebody_asked_for_are_taken(monkeypatch):
    """Whatever the cores are; above 8 of them all sessions share them."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert EmbeddedSettings(intra_op_threads=8, run_threads=5).intra_op_threads_chosen == 8
    assert EmbeddedSettings(run_threads=5).run_threads_chosen == 5
    assert not EmbeddedSettings(intra_op_threads=8).shares_threads
    assert EmbeddedSettings(intra_op_threads=9).shares_threads
