"""The shapes that outputs had: before the next run on inputs of the same shapes, memory for them is ready."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from onnxscope_server.domain import Array, DataType, Memory, TensorType, Value
from onnxscope_server.run.session import Session

InputShapes: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]
_Outputs: TypeAlias = Mapping[str, tuple[DataType, tuple[int, ...]]]
_KEPT = 64


def input_shapes(inputs: Mapping[str, Value]) -> InputShapes:
    """Returns what shapes are known by: those of the inputs that are arrays."""
    return tuple((name, value.shape) for name, value in inputs.items() if isinstance(value, np.ndarray))


class ShapesSeen:
    """Shapes of outputs, by session and by shapes of inputs; sessions where one does not tell the other are let be.

    Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: WeakKeyDictionary[Session, OrderedDict[InputShapes, _Outputs]] = WeakKeyDictionary()
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
            known = self._seen.get(session, OrderedDict()).get(given, {})
        made = {name: memory(*known[name]) for name in names if name in known}
        return {name: array for name, array in made.items() if array is not None}

    def learn(self, session: Session, given: InputShapes, values: Mapping[str, Value]) -> None:
        """Keeps the shapes that outputs had."""
        with self._lock:
            seen = self._seen.setdefault(session, OrderedDict())
            if given in seen:
                return
            seen[given] = {
                name: (declared.data_type, value.shape)
                for name, value in values.items()
                if isinstance(value, np.ndarray) and isinstance(declared := session.outputs.get(name), TensorType)
            }
            while len(seen) > _KEPT:
                seen.popitem(last=False)

    def forget(self, session: Session) -> None:
        """Says that shapes are not the same for the same inputs' shapes."""
        with self._lock:
            self._otherwise[session] = True
            self._seen.pop(session, None)
