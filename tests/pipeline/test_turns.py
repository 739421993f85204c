"""What waits is taken by turns: nobody's first item waits for another's second."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxscope_server.pipeline.batching.turns import Turns


@dataclass(eq=False, frozen=True)
class Item:
    """Something that waits."""

    caller: str
    rows: int = 1
    since: float = 0.0


ITEMS = st.lists(st.builds(Item, st.sampled_from("abc"), st.integers(1, 5)), max_size=20)


def _filled(items: list[Item]) -> Turns[Item]:
    turns: Turns[Item] = Turns()
    for item in items:
        turns.add(item.caller, item)
    return turns


def _taken(turns: Turns[Item], room: int) -> list[list[Item]]:
    rounds = []
    while turns:
        rounds.append(turns.take(room))
    return rounds


@given(items=ITEMS, room=st.integers(0, 12))
def test_all_is_taken_once_in_each_callers_order_and_within_the_room(items: list[Item], room: int) -> None:
    """Only a first item may be larger than the room; what is counted is what waits."""
    turns = _filled(items)
    assert (len(turns), turns.rows) == (len(items), sum(item.rows for item in items))
    rounds = _taken(turns, room)
    taken = [item for items in rounds for item in items]
    for caller in "abc":
        assert [item for item in taken if item.caller == caller] == [item for item in items if item.caller == caller]
    assert all(len(items) == 1 or sum(item.rows for item in items) <= room for items in rounds)
    assert (len(turns), turns.rows) == (0, 0)


@given(items=ITEMS, room=st.integers(0, 12))
def test_whose_turn_comes_has_to_wait_for_no_more_than_one_item_of_each_other(items: list[Item], room: int) -> None:
    """However much the others have waiting, and however large its own item is."""
    turns = _filled(items)
    last: dict[str, int] = {}
    for at, taken in enumerate(_taken(turns, room)):
        for item in taken:
            # in each round the first of whoever waits goes
            assert at - last.get(item.caller, -1) <= 3
            last[item.caller] = at


@given(items=ITEMS.filter(bool), room=st.integers(1, 12))
def test_room_is_left_only_where_nothing_fits(items: list[Item], room: int) -> None:
    """None of the callers has a next item that had fitted."""
    turns = _filled(items)
    taken = turns.take(room)
    left = room - sum(item.rows for item in taken)
    for caller in "abc":
        queue = [item for item in items if item.caller == caller and item not in taken]
        assert not queue or queue[0].rows > left


def test_the_busiest_loses_its_newest() -> None:
    """And the others nothing, in whatever order they came."""
    items = [Item(caller) for caller in "abbcb"]
    turns = _filled(items)
    assert [turns.pop_of_busiest() for _ in range(2)] == [items[4], items[2]]
    assert {item.caller for item in turns.take(9)} == set("abc")


def test_what_is_removed_is_gone_and_what_is_not_there_stays_away() -> None:
    """Also where another has the same numbers; a caller without items has no turn."""
    one, same, other = Item("a"), Item("a"), Item("b", since=-1.0)
    turns = _filled([one, same, other])
    assert turns.oldest == -1.0
    assert turns.remove("b", other)
    assert not turns.remove("b", other)
    assert not turns.remove("a", Item("a"))
    assert turns.oldest == 0.0
    assert turns.remove("a", one)
    assert turns.take(9) == [same]
    assert not turns
    with pytest.raises(ValueError, match="empty"):
        turns.oldest  # noqa: B018
