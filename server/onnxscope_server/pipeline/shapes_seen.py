"""The shapes that outputs had: before the next run on inputs of the same shapes, memory for them is ready."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from onnxscope_server.domain import Array, TensorType, Value
from onnxscope_server.pipeline.by_shapes import ByShapes, InputShapes
from onnxscope_server.result_domain import Destination, Memory
from onnxscope_server.run.session import Session

_Outputs: TypeAlias = Mapping[str, Destination]


def input_shapes(inputs: Mapping[str, Value]) -> InputShapes:
    """Returns what shapes are known by: those of the inputs that are arrays."""
    return tuple((name, value.shape) for name, value in inputs.items() if isinstance(value, np.ndarray))


class ShapesSeen:
    """Shapes of outputs, by session and by shapes of inputs; sessions where one does not tell the other are let be.

    Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: ByShapes[_Outputs] = ByShapes()
        self._otherwise: WeakKeyDictionary[Session, bool] = WeakKeyDictionary()

    def memory(self, session: Session, given: InputShapes, memory: Memory, names: Collection[str]) -> dict[str, Array]:
        """Returns arrays for outputs whose shapes are known.

        Args:
            session: that runs.
            given: shapes of the inputs.
            memory: makes an array, or says that it has none.
            names: outputs to make arrays for.
        """
        with self._lock:
            if session in self._otherwise:
                return {}
            known = self._seen.get(session, given) or {}
        made = {name: memory(known[name]) for name in names if name in known}
        return {name: array for name, array in made.items() if array is not None}

    def learn(self, session: Session, given: InputShapes, values: Mapping[str, Value]) -> None:
        """Keeps the shapes that outputs had."""
        with self._lock:
            if self._seen.get(session, given) is not None:
                return
            shapes = {
                name: Destination(declared.data_type, value.shape)
                for name, value in values.items()
                if isinstance(value, np.ndarray) and isinstance(declared := session.outputs.get(name), TensorType)
            }
            self._seen.put(session, given, shapes)

    def forget(self, session: Session) -> None:
        """Says that shapes are not the same for the same inputs' shapes."""
        with self._lock:
            self._otherwise[session] = True
            self._seen.forget(session)
