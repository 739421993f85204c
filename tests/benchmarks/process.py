"""What a process holds and has used, as Linux tells it."""

from __future__ import annotations

import os
from pathlib import Path


class Process:
    """A process that runs; everything is read anew at each call.

    Args:
        pid: of the process; this one's if not given.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._folder = Path(f"/proc/{pid or os.getpid()}")

    def resident(self) -> int:
        """Returns the bytes that are resident, each mapping counted whole."""
        return self._bytes("status", "VmRSS")

    def peak(self) -> int:
        """Returns the most bytes that were resident since the process began."""
        return self._bytes("status", "VmHWM")

    def share(self) -> int:
        """Returns the bytes that are resident; of pages that it shares or maps more than once, its part (PSS)."""
        return self._bytes("smaps_rollup", "Pss")

    def cpu_seconds(self) -> float:
        """Returns the seconds that its threads have computed."""
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _bytes(self, file: str, key: str) -> int:
        for line in (self._folder / file).read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == key:
                return int(rest.split()[0]) * 1024
        raise RuntimeError(f"{self._folder / file} has no {key}")
