"""Every setting is a flag and an environment variable, and a wrong one says so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import CliApp

from onnxscope_server import __main__ as program
from onnxscope_server import settings as module
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
    "max_probe_bytes": "12",
    "probe_bytes": "13",
    "max_probes": "14",
    "max_input_bytes": "8",
    "memory_budget": "9000000",
    "shared_memory_bytes": "10000",
    "max_batch_rows": "8",
    "batch_delay_seconds": "0.25",
    "probe_memory_bytes": "15",
    "probe_store_bytes": "16",
    "unfinished_sweep_bytes": "18",
    "unfinished_sweep_hours": "1.5",
    "max_fits": "3",
    "max_fit_calls": "17",
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


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes this machine one of so many cores, of which the process may use some, with a quota of its container."""

    def make(cores: int, allowed: int, quota: str | None) -> None:
        file = tmp_path / "cpu.max"
        if quota is not None:
            file.write_text(f"{quota}\n")
        monkeypatch.setattr(module, "_CONTAINER_CORES", file)
        monkeypatch.setattr(os, "cpu_count", lambda: cores)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)))

    return make


@pytest.mark.parametrize(
    ("cores", "allowed", "quota", "runs", "intra", "shared"),
    [
        (1, 1, None, 2, 0, False),
        (2, 2, None, 2, 0, False),
        (8, 8, None, 2, 0, False),
        (16, 16, None, 2, 0, True),
        (64, 64, None, 8, 0, True),
        (256, 256, None, 8, 0, True),
        (64, 64, "max 100000", 8, 0, True),
        (64, 64, "no number", 8, 0, True),
        (64, 64, "400000 100000", 2, 4, False),
        (64, 64, "150000 100000", 2, 2, False),
        (64, 64, "50000 100000", 2, 1, False),
        (64, 64, "3200000 100000", 4, 32, True),
        (64, 2, None, 2, 2, False),
        (64, 32, "400000 100000", 2, 4, False),
        (64, 2, "400000 100000", 2, 2, False),
        (4, 4, "1600000 100000", 2, 0, False),
    ],
)
def test_threads_fit_the_cores_that_the_process_may_use(
    machine: Any, cores: int, allowed: int, quota: str | None, runs: int, intra: int, shared: bool
) -> None:
    """Of machine, process and container whichever has least; 0 for all cores, which is onnxruntime's own count."""
    machine(cores, allowed, quota)
    chosen = EmbeddedSettings()
    assert (chosen.run_threads_chosen, chosen.intra_op_threads_chosen, chosen.shares_threads) == (runs, intra, shared)


def test_what_is_said_about_threads_holds(machine: Any) -> None:
    """Whatever the machine is."""
    machine(64, 64, "400000 100000")
    assert EmbeddedSettings(run_threads=3).run_threads_chosen == 3
    assert EmbeddedSettings(intra_op_threads=12).intra_op_threads_chosen == 12
    assert EmbeddedSettings(intra_op_threads=12).shares_threads
    assert not EmbeddedSettings(intra_op_threads=8).shares_threads


@pytest.mark.parametrize(("count", "shared"), [(8, []), (9, [9])])
def test_a_server_shares_threads_before_it_does_anything_else(
    monkeypatch: pytest.MonkeyPatch, count: int, shared: list[int]
) -> None:
    """Where there are many of them."""
    seen: list[int] = []

    async def run(_: Settings) -> None:
        assert seen == shared

    monkeypatch.setattr(program, "share_threads", seen.append)
    monkeypatch.setattr(program, "_run", run)
    assert main(["--intra-op-threads", str(count)]) == 0
    assert seen == shared
