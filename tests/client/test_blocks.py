"""Memory that arrays take in turns."""

from __future__ import annotations

import threading

import ml_dtypes
import numpy as np
import pytest

from onnxscope.blocks import Blocks

SHAPE = (512, 256)
FLOAT = np.dtype(np.float32)


def address(array):
    """Where an array's memory is."""
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", [np.bool_, np.float16, np.float64, np.complex128, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 100_000), (1_000_000,)])
def test_arrays_are_as_asked_for(dtype, shape):
    """Of the shape and dtype, contiguous, writable."""
    array = Blocks().empty(shape, np.dtype(dtype))
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.flags.aligned


def test_memory_is_used_again_when_its_array_is_gone():
    """The second array lies where the first one lay; two that are held lie apart."""
    blocks = Blocks()
    first = blocks.empty(SHAPE, FLOAT)
    second = blocks.empty(SHAPE, FLOAT)
    where = {address(first), address(second)}
    assert len(where) == 2
    del first, second
    assert blocks.idle_bytes == 2 * 512 * 256 * 4
    again = [blocks.empty((256, 512), np.dtype(np.int32)) for _ in range(2)]
    assert {address(array) for array in again} == where
    assert blocks.idle_bytes == 0


@pytest.mark.parametrize(
    "holder",
    [
        lambda array: array[3:4],
        lambda array: array.T[1:],
        lambda array: array.view(np.uint8).view(np.float32)[0],
        memoryview,
        lambda array: memoryview(array)[5:],
        np.asarray,
        lambda array: np.frombuffer(array, np.uint8),
        np.from_dlpack,
    ],
)
def test_memory_is_not_used_again_while_any_view_of_it_lives(holder):
    """Whatever of an array is held holds all of it."""
    blocks = Blocks()
    array = blocks.empty(SHAPE, FLOAT)
    array[:] = 7
    held = holder(array)
    del array
    other = blocks.empty(SHAPE, FLOAT)
    other[:] = 8
    assert np.all(np.asarray(held) == np.asarray(holder(np.full_like(other, 7))))
    del held
    assert blocks.idle_bytes == 512 * 256 * 4


def test_what_waits_is_bounded():
    """The sizes that were asked for long ago go first."""
    blocks = Blocks(idle_bytes=3 << 20)
    for size in (1 << 20, 2 << 20, 3 << 20):
        blocks.empty((size,), np.dtype(np.uint8))
        assert blocks.idle_bytes <= 3 << 20
    blocks.empty((1 << 20,), np.dtype(np.uint8))
    assert blocks.idle_bytes == 1 << 20
    blocks.empty((4 << 20,), np.dtype(np.uint8))
    assert blocks.idle_bytes == 0


def test_arrays_outlive_the_place_they_come_from():
    """A scope may be closed while its results are held."""
    array = Blocks().empty(SHAPE, FLOAT)
    array[:] = 3
    assert np.all(array == 3)


def test_threads_take_arrays_side_by_side():
    """No two get the same memory."""
    blocks = Blocks()
    wrong = []

    def work(mark):
        for _ in range(200):
            array = blocks.empty(SHAPE, FLOAT)
            array[:] = mark
            if not np.all(array == mark):
                wrong.append(mark)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
