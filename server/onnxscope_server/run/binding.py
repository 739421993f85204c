"""Outputs that onnxruntime writes straight into memory that the caller has."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from onnxscope_server.domain import Array, DataType, TensorType, ValueType
from onnxscope_server.run.environment import native
from onnxscope_server.run.values import CPU, DTYPES, Feed, as_ort_value, is_packed

# more runs of a session than this rarely go on at the same time
_BINDINGS_KEPT = 8


class Target(NamedTuple):
    """An array that onnxruntime can write into.

    Attributes:
        array: the array.
        data_type: onnxruntime's name for its elements.
        pointer: where its memory begins.
    """

    array: Array
    data_type: DataType
    pointer: int


def targets(
    into: Mapping[str, Array], names: Iterable[str], outputs: Mapping[str, ValueType | None]
) -> dict[str, Target]:
    """Returns what can be bound: arrays of whole bytes an element, contiguous, of the type that the session declares.

    Args:
        into: arrays by output name.
        names: of the outputs that are wanted.
        outputs: declared types by output name.
    """
    found = {}
    for name in names:
        array, declared = into.get(name), outputs.get(name)
        if array is None or not isinstance(declared, TensorType) or declared.sparse:
            continue
        if _takes(array, declared.data_type):
            found[name] = Target(array, declared.data_type, _address(array))
    return found


def _address(array: Array) -> int:
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]  # an array is a buffer
    except ValueError:
        # a type that the buffer protocol does not know; this takes four times as long
        address: int = array.__array_interface__["data"][0]
        return address


def _takes(array: Array, data_type: DataType) -> bool:
    whole_bytes = data_type is not DataType.STRING and not is_packed(data_type)
    # without elements there is nothing to write, and no pointer to recognise
    return whole_bytes and array.flags.carray and array.dtype == DTYPES[data_type] and array.size > 0


class Binding:
    """Outputs of a native session, each where it was bound last.

    Args:
        session: the native session.
        fetches: names of the outputs.
    """

    def __init__(self, session: Any, fetches: Sequence[str]) -> None:
        # first, so that it goes before the session does
        self._native = native.SessionIOBinding(session)
        self._session = session
        self.fetches = list(fetches)
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}

    def run(self, feeds: Mapping[str, Feed], bound: Mapping[str, Target], run_options: Any) -> Any:
        """Runs the session once, with outputs where the caller says.

        Args:
            feeds: inputs by name, all of them OrtValues.
            bound: targets by output name.
            run_options: onnxruntime's.

        Returns:
            An OrtValue for every fetch, by index; see `is_written`. They are the binding's, and others after the next
            run.

        Raises:
            RuntimeError: onnxruntime failed; a target has another shape than its output, for one.
        """
        for name, feed in feeds.items():
            self._native.bind_ortvalue_input(name, feed.value)
        for name in self.fetches:
            target = bound.get(name)
            if target is None:
                self._native.bind_output(name, CPU)
                self._places.pop(name, None)
                continue
            place = (target.pointer, target.array.shape)
            if self._places.get(name) != place:
                self._native.bind_output(name, CPU, int(target.data_type), list(place[1]), target.pointer)
                self._places[name] = place
        self._session.run_with_iobinding(self._native, run_options)
        return self._native.get_outputs()

    def let_go(self) -> None:
        """Forgets the inputs of the last run."""
        self._native.clear_binding_inputs()


class Bindings:
    """The bindings of a native session that wait for a next run, which often writes where an earlier one wrote.

    Thread-safe: a binding that was taken is nobody else's.

    Args:
        session: the native session.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._idle: deque[Binding] = deque(maxlen=_BINDINGS_KEPT)

    def take(self, fetches: Sequence[str]) -> Binding:
        """Returns a binding for outputs of these names."""
        try:
            binding = self._idle.pop()
        except IndexError:
            return Binding(self._session, fetches)
        return binding if binding.fetches == fetches else Binding(self._session, fetches)

    def give_back(self, binding: Binding) -> None:
        """Takes a binding whose outputs all lie where they were bound, and of whose results nobody has any."""
        binding.let_go()
        self._idle.append(binding)


def to_ort_value(target: Target) -> Any:
    """Returns an OrtValue of its own over a target."""
    return as_ort_value(target.array, target.data_type).value


def is_written(target: Target, result: Any) -> bool:
    """Returns whether an OrtValue lies in its target: an input that is passed through stays where it was."""
    return bool(result.data_ptr() == target.pointer)
