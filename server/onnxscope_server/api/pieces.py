"""Pieces of files, each of which fits a message."""

from __future__ import annotations

from collections.abc import Iterator

_PIECE_BYTES = 1 << 20


def pieces(data: bytes) -> Iterator[bytes]:
    """Yields a file's bytes, in order; nothing of an empty one."""
    for start in range(0, len(data), _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES]
