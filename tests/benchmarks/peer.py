"""Other programs that do the same work: their environment, and processes that take turns."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FOLDER = Path(__file__).with_name("peers")
_REQUIREMENTS = _FOLDER / "requirements.txt"


class PeerError(Exception):
    """A peer can't be had, or ended."""


class Peer:
    """A peer's process that waits for its turn; see peers/turns.py."""

    def __init__(self, process: subprocess.Popen[str], name: str, log: Path) -> None:
        self._process = process
        self._name = name
        self._log = log

    def turn(self) -> tuple[float, int]:
        """Lets it work once; returns the seconds it took and the bytes it had in the end.

        Raises:
            PeerError: it ended.
        """
        if self._process.stdin is None:
            raise PeerError(f"{self._name} does not listen")
        try:
            print("go", file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise PeerError(self._ended()) from None
        seconds, received = self.answer().split()
        return float(seconds), int(received)

    def answer(self) -> str:
        """Returns the next line that it says.

        Raises:
            PeerError: it ended.
        """
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise PeerError(self._ended())
        return line

    def _ended(self) -> str:
        last = (self._log.read_text().strip().splitlines() or ["it said nothing"])[-1]
        return f"{self._name} ended: {last}"


def environment(cache: Path) -> Path:
    """Makes the peers' environment where it is missing or older than what is pinned.

    Args:
        cache: folder that keeps it.

    Returns:
        Its Python.

    Raises:
        PeerError: the packages can't be had.
    """
    folder = cache / "peers"
    python, made = folder / "bin" / "python", folder / _REQUIREMENTS.name
    if not made.exists() or made.read_bytes() != _REQUIREMENTS.read_bytes():
        install = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(_REQUIREMENTS)]
        for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], install):
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or [""])[-1]
                raise PeerError(f"the peers' environment can't be made: {last}")
        made.write_bytes(_REQUIREMENTS.read_bytes())
    return python


@contextmanager
def peer(python: Path, script: str, logs: Path, *arguments: object) -> Iterator[Peer]:
    """Starts a peer and waits until it is ready.

    Args:
        python: of the peers' environment.
        script: its module in the folder peers/.
        logs: folder for what it says beside.
        *arguments: of the script.

    Raises:
        PeerError: it did not start.
    """
    command = [str(python), str(_FOLDER / f"{script}.py"), *map(str, arguments)]
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    log = logs / f"{script}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True, env=surroundings
        )
    try:
        started = Peer(process, script, log)
        started.answer()
        yield started
    finally:
        # a peer ends with its input, and ends what it started
        if process.stdin is not None:
            process.stdin.close()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
