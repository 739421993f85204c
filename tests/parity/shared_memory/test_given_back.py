"""When shared memory is used again or given back: not while anybody holds it, and always after that."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tests.parity.shared_memory.observed import ROWS, Served, check, descriptors, until

import onnxscope


def test_arrays_that_are_kept_are_never_written_again(served: Served, chain: bytes, x: np.ndarray) -> None:
    """A thousand calls later, from four threads and by streams, they hold what they held."""
    with onnxscope.connect(served.target) as scope:
        model = scope.load(chain)
        first = model.capture(x, at="*")
        small = x[: 1 << 13]

        def work(seed: int) -> None:
            for index in range(200):
                value = small + np.float32(seed * 200 + index)
                check(model.capture(value, at="*"), value)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for index, acts in enumerate(model.stream((small + np.float32(i) for i in range(200)), at="*")):
            check(acts, small + np.float32(index))
        check(first, x)


def test_memory_that_nobody_uses_is_given_back(served: Served, chain: bytes, x: np.ndarray) -> None:
    """Within seconds, by both sides, while the scope stays open; descriptors stay as many as they were."""
    with onnxscope.connect(served.target) as scope:
        model = scope.load(chain)
        model.capture(x[:10], at="*")
        assert served.shared_bytes == 0
        before = descriptors()
        for _ in range(5):
            acts = model.capture(x, at="*")
        assert served.shared_bytes > 1 << 20
        del acts
        gc.collect()
        until(lambda: served.shared_bytes == 0)
        until(lambda: "memfd:onnxscope" not in Path("/proc/self/maps").read_text())
        until(lambda: descriptors() <= before)
        check(model.capture(x, at="*"), x)


def test_calls_that_are_not_read_to_their_end_leave_nothing(served: Served, chain: bytes, x: np.ndarray) -> None:
    """Closed after one value, or after one batch of many, over and over: the values never read go back."""
    with onnxscope.connect(served.target) as scope:
        model = scope.load(chain)
        for _ in range(30):
            values = model.capture_iter(x, at="*")
            next(values)
            values.close()
            batches = model.stream((x for _ in range(50)), at="*", batch_size=ROWS)
            check(next(batches), x)
            batches.close()
        del values, batches
        gc.collect()
        until(lambda: served.shared_bytes == 0)
        check(model.capture(x, at="*"), x)


def test_an_unread_stream_stops(served: Served, chain: bytes, rng: np.random.Generator) -> None:
    """The server computes no further than somebody reads, though nothing of it is in messages."""
    x = rng.random((400_000, 3), dtype=np.float32)
    taken = 0

    def batches() -> Iterator[np.ndarray]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield x

    with onnxscope.connect(served.target) as scope:
        stream = scope.load(chain).stream(batches(), at="*", batch_size=len(x))
        next(stream)
        time.sleep(1.5)
        assert taken < 12
        assert served.shared_bytes < 200 << 20
        stream.close()
