"""The README is true: its example runs, and prints what stands there."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_the_example_prints_what_the_readme_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten lines of Python, and their real output."""
    text = (ROOT / "README.md").read_text()
    code, output = re.findall(r"```(?:python|text)\n(.*?)```", text, re.DOTALL)[:2]
    monkeypatch.chdir(ROOT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})  # that is the claim
    assert printed.getvalue().strip() == output.strip()


def test_the_probe_is_printed_as_the_readme_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured, line by line; the digits of scores may be those of another processor."""
    text = (ROOT / "README.md").read_text()
    code, output = re.findall(r"```(?:python|text)\n(.*?)```", text, re.DOTALL)[2:4]
    monkeypatch.chdir(ROOT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})  # that is the claim
    got, said = printed.getvalue().strip().splitlines(), output.strip().splitlines()
    assert [line[:16] for line in got] == [line[:16] for line in said]
    assert got[0] == said[0]
    assert float(got[-1].split()[-1]) == pytest.approx(float(said[-1].split()[-1]), abs=0.02)


def test_every_path_of_the_readme_exists() -> None:
    """The life of a capture names modules that are there."""
    text = (ROOT / "README.md").read_text().split("## The life of a capture")[1]
    names = set(re.findall(r"`([a-z_/]+\.py)`", text))
    assert names
    there = {path.relative_to(ROOT).as_posix() for part in ("client", "server") for path in (ROOT / part).rglob("*.py")}
    for name in names:
        assert any(path == name or path.endswith(f"/{name}") for path in there), name
