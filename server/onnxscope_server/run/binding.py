"""Outputs that onnxruntime writes straight into memory that the caller has."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from onnxscope_server.domain import Array, DataType, TensorType, ValueType
from onnxscope_server.run.environment import native
from onnxscope_server.run.values import CPU, DTYPES, Feed, is_packed


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
    return array.dtype == DTYPES[data_type] and array.flags.carray and array.size > 0 and whole_bytes


def run_bound(
    session: Any, feeds: Mapping[str, Feed], fetches: Sequence[str], bound: Mapping[str, Target], run_options: Any
) -> list[Any]:
    """Runs a native session once, with outputs where the caller says.

    Args:
        session: the native session.
        feeds: inputs by name, all of them OrtValues.
        fetches: names of outputs.
        bound: targets by output name.
        run_options: onnxruntime's.

    Returns:
        An OrtValue for every fetch; see `is_written`.

    Raises:
        RuntimeError: onnxruntime failed; a target has another shape than its output, for one.
    """
    binding = native.SessionIOBinding(session)
    for name, feed in feeds.items():
        binding.bind_ortvalue_input(name, feed.value)
    for name in fetches:
        target = bound.get(name)
        if target is None:
            binding.bind_output(name, CPU)
        else:
            binding.bind_output(name, CPU, int(target.data_type), list(target.array.shape), target.pointer)
    session.run_with_iobinding(binding, run_options)
    results: list[Any] = binding.get_outputs()
    return results


def is_written(target: Target, result: Any) -> bool:
    """Returns whether an OrtValue lies in its target: an input that is passed through stays where it was."""
    return bool(result.data_ptr() == target.pointer)
