"""Results -> values in memory that the client shares."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import numpy as np

from onnxscope.v1 import sharing
from onnxscope_server.domain import Array, Value
from onnxscope_server.result_domain import Result
from onnxscope_server.wire.share import Share


async def placed(result: Result, share: Share | None, *, whole: bool = False) -> Result:
    """Returns a result whose large arrays lie in shared memory, each in a block of its own, as far as there is room.

    Where there are any, it waits until the client has taken enough of what it was given before; not where the client
    waits for the whole.

    Args:
        result: what will be sent; nobody else reads those of its arrays that lie in shared memory.
        share: of the call; None where nothing is shared.
        whole: whether the client uses nothing before all has come.
    """
    if share is None:
        return result
    groups = {kind: dict(values) for kind, values in result.values.items()}
    # once a block is given the client may write there, so that nothing else is read from it afterwards
    taken: set[int] = set()
    for group in groups.values():
        for value in group.values():
            if isinstance(value, list):
                taken.update(_blocks_of_items(value, share))
    pending = [
        (group, name, value)
        for group in groups.values()
        for name, value in group.items()
        if isinstance(value, np.ndarray) and _must_move(value, share, taken)
    ]
    if (taken or pending) and not whole:
        await share.room()
    if not pending:
        return result
    await asyncio.to_thread(_copy, pending, share)
    return Result.of(groups, result.timings, result.fidelity)


def _must_move(value: Array, share: Share, taken: set[int]) -> bool:
    """Returns whether an array belongs into shared memory and is to be copied there; adds the block of one that is."""
    if not sharing.is_shareable(value.dtype, value.nbytes):
        return False
    block = share.block_of(value)
    if block is None or block in taken or not value.flags.c_contiguous:
        return True
    taken.add(block)
    return False


def _blocks_of_items(values: list[Value], share: Share) -> Iterator[int]:
    """Yields the blocks in which items of a list lie: lists are sent in messages."""
    for item in values:
        if isinstance(item, list):
            yield from _blocks_of_items(item, share)
        elif isinstance(item, np.ndarray) and (block := share.block_of(item)) is not None:
            yield block


def _copy(pending: Sequence[tuple[dict[str, Value], str, Array]], share: Share) -> None:
    for group, name, value in pending:
        copy = share.put(value)
        if copy is None and share.block_of(value) is not None:
            copy = value.copy()
        if copy is not None:
            group[name] = copy
