"""Plans that are cut wherever they can be, however little there is to send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from onnxscope_server.rewrite import segments


@contextmanager
def cut_everywhere(piece_bytes: int = 1) -> Iterator[None]:
    """Has every plan that is made meanwhile cut wherever it can be, or into pieces of so many bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "_LEAST_BYTES", 0)
        patch.setattr(segments, "_LEAST_PIECE_BYTES", piece_bytes)
        patch.setattr(segments, "_MOST_PIECE_BYTES", piece_bytes)
        patch.setattr(segments, "_MOST_PIECES", 1 << 30)
        patch.setattr(segments, "_UNKNOWN_BYTES", 16)
        yield
