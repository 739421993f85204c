"""Contenders take turns."""

from __future__ import annotations

from tests.benchmarks.interleaved import interleaved, timed


def test_everyone_begins_as_often() -> None:
    """Rounds rotate, warm-ups do not count."""
    calls: list[str] = []

    def contender(name: str):
        return lambda: calls.append(name) or len(calls)

    found = interleaved({name: contender(name) for name in "abc"}, rounds=3, warmups=1)
    assert calls[3:] == [*"abc", *"bca", *"cab"]
    assert found == {"a": [4, 9, 11], "b": [5, 7, 12], "c": [6, 8, 10]}


def test_letting_go_is_not_timed() -> None:
    """The clock stops before a result dies."""
    died = []

    class Result:
        def __del__(self) -> None:
            died.append(True)

    assert timed(Result)() < 1
    assert died == [True]
