"""Small captures: those whose request and answer are one message each, for which there is a quicker call."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from onnxscope import encode
from onnxscope.encode import SentValue
from onnxscope.sharing import blocks_of
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1.envelope import Carried

_MOST_BYTES = 32 << 10
_KEPT = 1024

# what is asked, and the shapes of what it is asked of
Key: TypeAlias = tuple[bytes, tuple[tuple[str, tuple[int, ...]], ...]]


class SmallCaptures:
    """Which captures are small, by what they were the last time. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[Key, None] = OrderedDict()

    def key(self, spec: pb.CaptureSpec, values: Sequence[SentValue]) -> Key | None:
        """Returns what a capture is known by; None where its request is not small."""
        shapes = []
        byte_count = 0
        for _, name, value in values:
            if not isinstance(value, np.ndarray) or value.dtype.kind in "OUST":
                return None
            byte_count += value.nbytes
            shapes.append((name, value.shape))
        return None if byte_count > _MOST_BYTES else (spec.SerializeToString(), tuple(shapes))

    def request(self, key: Key | None, spec: pb.CaptureSpec, values: Sequence[SentValue]) -> bytes | None:
        """Returns the message of a capture that is known to be small; None for any other."""
        return encode.small_request(spec, values) if key in self._known else None

    def learn(self, key: Key | None, only: Carried | None) -> None:
        """Keeps whether a capture was small.

        Args:
            key: of the capture; None for what can't be.
            only: the message that was the answer to it; None where there were several.
        """
        if key is None:
            return
        is_small = only is not None and 0 < only.byte_count <= _MOST_BYTES and not blocks_of(only)
        with self._lock:
            if is_small:
                self._known[key] = None
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            else:
                self._known.pop(key, None)
