"""Every setting is a flag and an environment variable, and a wrong one says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import CliApp

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
    "max_model_bytes": "7",
    "max_input_bytes": "8",
    "memory_budget": "9000000",
    "shared_memory_bytes": "70000",
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
