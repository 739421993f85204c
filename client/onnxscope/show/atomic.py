"""Files that are either complete or not there."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lends a temporary path whose file takes the place of `path` when the block ends well.

    A block that raises leaves what was there before, and no temporary file.

    Args:
        path: the file to write; a symbolic link is followed.

    Yields:
        A new path in the same folder.

    Raises:
        OSError: the folder is missing or read-only, or `path` is no regular file.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise IsADirectoryError(f"{path} is not a regular file; name a file to write")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist; create it first")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.touch()
        mode = (target if target.exists() else part).stat().st_mode
        yield part
        # some writers make their own file, readable by nobody else
        part.chmod(stat.S_IMODE(mode))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
