"""What files need to outlive a crash, and a folder to belong to one process."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

from onnxscope_server.errors import LimitExceededError

PART = ".part"  # ends the name of a file that is being written


def sync(path: Path) -> None:
    """Waits until a file's bytes are on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Waits until what was renamed in a folder is so on the disk."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes, advice: str, *, durable: bool) -> None:
    """Writes a file by one rename: it is there as a whole, or as it was before. One at a time writes a path.

    Args:
        path: of the file; its folder is made where it is missing.
        data: what is in it then.
        advice: what to do where the disk is full.
        durable: see to it that a power failure can't undo it.

    Raises:
        LimitExceededError: the disk is full.
    """
    part = path.with_name(f".{path.name}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        if durable:
            sync(part)
        part.replace(path)
    except OSError as error:
        if not is_full(error):
            raise
        raise LimitExceededError(
            f"The disk of the server's data folder is full. {advice}",
            setting="data",
            limit="the disk",
            got=str(len(data)),
        ) from error
    finally:
        part.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)


def is_full(error: OSError) -> bool:
    """Tells whether an error says that there is no room on the disk, or none for this user."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def lock_folder(folder: Path) -> int | None:
    """Takes a folder for this process, by its file `lock`.

    Returns:
        A descriptor: closing it, or the process's end, gives the folder back. None where another holds it.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 -- there is no other lock on Windows

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 -- and none of this name there

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        return None
    return descriptor
