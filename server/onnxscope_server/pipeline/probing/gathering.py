"""Where the activations of a pass are kept: in memory while they fit, in a store on disk beyond."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import numpy as np

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import Rows
from onnxscope_server.probes.array_rows import in_memory
from onnxscope_server.run.heap import trim
from onnxscope_server.store.activations import ActivationStore


class Gathering:
    """Keeps activations by name, batch after batch; used by one thread at a time.

    Args:
        memory_bytes: what may be in memory; beyond that everything goes to a store.
        open_store: opens the store.
        durable: use the store from the beginning, so that what is there can be gone on with.
    """

    def __init__(
        self,
        memory_bytes: int,
        open_store: Callable[[], ActivationStore],
        *,
        durable: bool,
    ) -> None:
        self._memory_bytes = memory_bytes
        self._open_store = open_store
        self._store = open_store() if durable else None
        self._batches: deque[tuple[int, str, dict[str, Array]]] = deque()
        self._byte_count = 0
        self._widths: dict[str, int] = {}
        self._rows: dict[str, Rows] = {}

    def has(self, index: int, digest: str) -> bool:
        """Tells whether the activations of a batch are there from before."""
        return self._store is not None and self._store.has(index, digest)

    def has_name(self, name: str) -> bool:
        """Tells whether something was put, or expected, under a name."""
        return name in self._widths

    def expect(self, arrays: Mapping[str, Array]) -> None:
        """Is told what a batch is made of that is there from before.

        Raises:
            DataInvalidError: rows of one name differ in length from one batch to another.
        """
        for name, array in arrays.items():
            width = self._widths.setdefault(name, array.shape[1])
            if width != array.shape[1]:
                raise DataInvalidError(
                    f"Rows of {name!r} have {width} features in one batch and {array.shape[1]} in another. Use a "
                    "reduction that makes them alike, such as 'mean' or 'last', or pad all batches to one length.",
                    address=name,
                )

    def put(self, index: int, digest: str, arrays: dict[str, Array]) -> None:
        """Takes the activations of a batch.

        Args:
            index: of the batch.
            digest: of what it was given.
            arrays: float32 [example, feature], by name.

        Raises:
            DataInvalidError: rows of one name differ in length from one batch to another.
            LimitExceededError: the store is full.
        """
        self.expect(arrays)
        # what lies in onnxruntime's memory would make it take more for the next run, and that it never gives back
        arrays = {name: array if array.flags.owndata else array.copy() for name, array in arrays.items()}
        if self._store is not None:
            self._store.put(index, digest, arrays)
            return
        self._batches.append((index, digest, arrays))
        self._byte_count += sum(array.nbytes for array in arrays.values())
        if self._byte_count > self._memory_bytes:
            self._store = self._open_store()
            while self._batches:
                self._store.put(*self._batches.popleft())
            trim()

    def finish(self, batch_count: int) -> None:
        """Has everything ready to be read, of so many batches."""
        if self._store is not None:
            self._store.truncate(batch_count)
            trim()
            return
        for name in self._widths:
            # popped, so that no more than one name's activations are there twice
            pieces = [arrays.pop(name) for _, _, arrays in self._batches]
            self._rows[name] = in_memory(pieces[0] if len(pieces) == 1 else np.concatenate(pieces))
        self._batches.clear()

    def rows(self, name: str) -> Rows:
        """Returns all that was put under a name, after `finish`."""
        return self._rows[name] if self._store is None else self._store.rows(name)

    def close(self, *, keep: bool) -> None:
        """Lets everything go.

        Args:
            keep: leave the store on disk, to go on with it later.
        """
        self._batches.clear()
        self._rows.clear()
        if self._store is not None:
            try:
                if keep:
                    self._store.flush()
                else:
                    self._store.delete()
            finally:  # a full disk must not hold the folder for good
                self._store.close()
