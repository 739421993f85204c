"""How far a run has come."""

from __future__ import annotations

import io

import pytest

import onnxscope
from onnxscope import progress


def test_a_function_is_told_as_it_is():
    """The caller's own."""
    heard = []
    progress.of(lambda *told: heard.append(told))(3, None)
    assert heard == [(3, None)]


@pytest.mark.parametrize("asked", [None, False, True])
def test_silence_where_there_is_no_terminal(asked, capsys):
    """A log file is not filled with bars."""
    progress.of(asked)(1, 2)
    assert capsys.readouterr() == ("", "")


def test_anything_else_is_refused():
    """A number is no progress."""
    with pytest.raises(onnxscope.ValueInvalidError, match="progress"):
        progress.of(3)


def test_a_bar_is_one_line():
    """Rewritten in place, ended at the end; without a total it counts."""
    out = io.StringIO()
    bar = progress.Bar(out)
    for done in (1, 2, 3, 4):
        bar(done, 4)
    assert out.getvalue().count("\n") == 1
    assert "4 of 4 rows" in out.getvalue()
    counted = io.StringIO()
    progress.Bar(counted)(5, None)
    assert counted.getvalue() == "\r5 rows\x1b[K"


def test_stages_share_a_line_that_goes(monkeypatch):
    """Each stage says what it counts; at the end nothing is left of them. A function hears of rows alone."""
    out = io.StringIO()
    out.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", out)
    staged = progress.staged(True, "capture")
    staged.tell("capture", 4, 4)
    staged.tell("fit", 1, 2)
    staged.end()
    assert "capture  " in out.getvalue()
    assert "4 of 4 rows" in out.getvalue()
    assert "1 of 2 hook points" in out.getvalue()
    assert out.getvalue().endswith("\r\x1b[K")
    assert "\n" not in out.getvalue()
    told = []
    staged = progress.staged(lambda done, total: told.append((done, total)), "capture")
    staged.tell("capture", 1, None)
    staged.tell("fit", 1, 2)
    staged.end()
    assert told == [(1, None)]
