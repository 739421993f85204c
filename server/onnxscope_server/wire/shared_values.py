"""Results -> values in memory that the client shares, and what it is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np

from onnxscope.v1 import codec, sharing
from onnxscope.v1 import tensor_pb2 as pb
from onnxscope_server.domain import Array, Result, Value
from onnxscope_server.wire.share import Share


async def placed(result: Result, share: Share | None, kept: Collection[str] = ()) -> Result:
    """Returns a result whose large arrays lie in shared memory, each in a block of its own, as far as there is room.

    Args:
        result: of a run.
        share: of the call; None where nothing is shared.
        kept: names of outputs that are read here after they were sent: the client gets copies of them.
    """
    if share is None:
        return result
    groups = [dict(group) for group in (result.activations, result.scalings, result.outputs)]
    # what is read after a block was given must not lie there: the client may write to it
    taken = {block for name in kept for block in _blocks(result.outputs.get(name), share)}
    taken |= {
        block
        for group in groups
        for value in group.values()
        if isinstance(value, list)
        for block in _blocks(value, share)
    }
    pending = []
    for group in groups:
        for name, value in group.items():
            if isinstance(value, np.ndarray) and sharing.is_shareable(value.dtype, value.nbytes):
                block = share.block_of(value)
                if block is None or block in taken:
                    pending.append((group, name, value))
                else:
                    taken.add(block)
    if pending:
        await asyncio.to_thread(_copy, pending, share)
    activations, scalings, outputs = groups
    return replace(result, activations=activations, scalings=scalings, outputs=outputs)


async def room(share: Share | None) -> None:
    """Waits until the client has taken enough of what it was given; see `Share.room`."""
    if share is not None:
        await share.room()


def _blocks(value: Value, share: Share) -> Iterator[int]:
    if isinstance(value, list):
        for item in value:
            yield from _blocks(item, share)
    elif isinstance(value, np.ndarray) and (block := share.block_of(value)) is not None:
        yield block


def _copy(pending: Sequence[tuple[dict[str, Value], str, Array]], share: Share) -> None:
    for group, name, value in pending:
        copy = share.put(value)
        if copy is None and share.block_of(value) is not None:
            copy = value.copy()
        if copy is not None:
            group[name] = copy


def parts(role: pb.ValueRole, name: str, value: Value, share: Share | None) -> Iterator[codec.Part]:
    """Yields what is sent of a value: where it lies in shared memory, or its pieces."""
    location = share.give(value) if share is not None and isinstance(value, np.ndarray) else None
    if location is None or not isinstance(value, np.ndarray):
        yield from codec.parts(role, name, value)
        return
    array = pb.ArrayLayout(data_type=sharing.DATA_TYPES[value.dtype], shape=value.shape, byte_count=location.byte_count)
    shared = pb.SharedBytes(block=location.block, offset=location.offset, byte_count=location.byte_count)
    yield codec.Part(pb.ValueStart(role=role, name=name, layout=pb.ValueLayout(array=array), shared=shared), 0, b"")
