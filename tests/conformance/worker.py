"""A process that measures models and may die of it."""

from __future__ import annotations

import multiprocessing
from typing import Any

from tests.conformance.measure import Case, Row, measure

import onnxscope

_SECONDS = 900


class Worker:
    """A process that measures one model after the other; started anew where it died or took too long."""

    def __init__(self) -> None:
        self._process: Any = None
        self._pipe: Any = None

    def measure(self, case: Case) -> Row:
        """Measures one model there."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, other = context.Pipe()
            self._process = context.Process(target=_serve, args=(other,), daemon=True)
            self._process.start()
            other.close()
        try:
            self._pipe.send(case)
            if self._pipe.poll(_SECONDS):
                row: Row = self._pipe.recv()
                return row
            state = "timeout"
        except (EOFError, BrokenPipeError, ConnectionResetError):
            state = "crash"
        self.stop()
        return Row(case.group, case.name, state=state, problems=[state])

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(pipe: Any) -> None:
    with onnxscope.local(intra_op_threads=1) as scope:
        while True:
            try:
                case = pipe.recv()
            except EOFError:
                return
            pipe.send(measure(case, scope))
