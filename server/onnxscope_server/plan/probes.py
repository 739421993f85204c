"""Resolves probes against the hook points that they read."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.probe_entry import ProbeEntry
from onnxscope_server.catalog.value_types import of_one_iteration, over_iterations
from onnxscope_server.domain import DataType, PlannedProbe, ProbeOutput, Shape, TensorType, ValueType
from onnxscope_server.errors import OnnxscopeServerError, ProbeInvalidError
from onnxscope_server.plan.element_types import WITHOUT_MEAN, name_of
from onnxscope_server.plan.reductions import reduced
from onnxscope_server.plan.selectors import matching, select

_MATRIX = 2
_TAKEN = (DataType.FLOAT32, DataType.FLOAT64, DataType.FLOAT16)


def planned_probes(model: CatalogModel, entries: Sequence[ProbeEntry]) -> tuple[PlannedProbe, ...]:
    """Resolves probes.

    Args:
        model: that they are of.
        entries: probes of the catalog, each once.

    Raises:
        ProbeInvalidError: one does not fit the hook point that it reads, or there is no such hook point.
    """
    taken: set[str] = set()
    found = []
    for entry in entries:
        type_, takes = _read(model, entry)
        outputs = []
        for name, declared in entry.outputs:
            value = f"{entry.info.name}::{name}"
            while value in taken:
                value += "'"
            taken.add(value)
            outputs.append(ProbeOutput(name, value, _of_any_rows(declared)))
        info = entry.info
        found.append(
            PlannedProbe(
                info.name,
                entry.digest,
                info.address,
                info.reduction,
                type_,
                takes,
                info.kind.value,
                tuple(info.classes),
                tuple(outputs),
                info.row_axis,
            )
        )
    return tuple(found)


def check_fits(model: CatalogModel, entry: ProbeEntry) -> None:
    """Checks that a probe fits the hook point that it reads.

    Raises:
        ProbeInvalidError: it does not, or there is no such hook point.
        HookPointNotFoundError: there is no such hook point; the text names the closest.
    """
    if not matching(model.hook_points, entry.info.address, every_kind=True):
        select(model.hook_points, [entry.info.address])
    _read(model, entry)


def _read(model: CatalogModel, entry: ProbeEntry) -> tuple[ValueType | None, TensorType]:
    """Returns the type of what a probe reads, reduced and of all iterations, and the type of what its graph takes."""
    info = entry.info
    takes = entry.input
    if not isinstance(takes, TensorType) or takes.data_type not in _TAKEN or takes.sparse:
        raise _invalid(entry, "its input is no array of floats")
    point = next((point for point in model.hook_points if point.address == info.address), None)
    if point is None:
        raise _invalid(entry, f"the model has no hook point {info.address!r}")
    repeats = model.contents.places(expand=False)[point.address].repeats
    type_ = of_one_iteration(point.type, repeats)
    if info.reduction is not None:
        try:
            type_ = reduced(point.address, info.reduction, type_)
        except OnnxscopeServerError as error:
            raise _invalid(entry, error.message) from error
    why = _mismatch(takes, _rows_first(entry, type_))
    if why:
        raise _invalid(entry, f"{why} at {info.address!r}")
    return over_iterations(type_, repeats), takes


def _rows_first(entry: ProbeEntry, type_: ValueType | None) -> ValueType | None:
    """Returns a type with the axis of the rows in front."""
    axis = entry.info.row_axis
    if not axis or (type_ is not None and not isinstance(type_, TensorType)):
        return type_
    if type_ is None or type_.shape is None:
        raise _invalid(entry, f"its rows lie along axis {axis}, and how many axes there are is not known")
    if axis >= len(type_.shape):
        raise _invalid(entry, f"its rows lie along axis {axis}, and there are {len(type_.shape)} axes")
    shape = (type_.shape[axis], *type_.shape[:axis], *type_.shape[axis + 1 :])
    return TensorType(type_.data_type, shape, type_.sparse)


def _mismatch(takes: TensorType, type_: ValueType | None) -> str:
    """Says why a probe can't take a value of a type; empty where it can, as far as that is known."""
    if type_ is not None and (not isinstance(type_, TensorType) or type_.sparse):
        return "there is no array"
    if type_ is not None and type_.data_type in WITHOUT_MEAN:
        return f"there is {name_of(type_.data_type)}"
    if type_ is None or type_.shape is None or takes.shape is None:
        return ""
    have = _flat(type_.shape) if len(takes.shape) == _MATRIX else type_.shape
    if not type_.shape or len(have) != len(takes.shape):
        return f"it takes {len(takes.shape)} axes and there are {len(type_.shape)}"
    wrong = [
        f"it takes {wanted} features and there are {size}"
        for wanted, size in zip(takes.shape[1:], have[1:], strict=True)
        if isinstance(wanted, int) and isinstance(size, int) and wanted != size
    ]
    return ", ".join(wrong)


def _flat(shape: Shape) -> Shape:
    """Returns a shape flattened behind the rows."""
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    return *shape[:1], math.prod(sizes) if len(sizes) == len(shape) - 1 else None


def _of_any_rows(declared: ValueType | None) -> ValueType | None:
    """Returns a type without sizes that hold for the rows alone that a probe was exported with."""
    if not isinstance(declared, TensorType) or declared.shape is None:
        return declared
    sizes = [size if axis and isinstance(size, int) else None for axis, size in enumerate(declared.shape)]
    return TensorType(declared.data_type, tuple(sizes), declared.sparse)


def _invalid(entry: ProbeEntry, why: str) -> ProbeInvalidError:
    return ProbeInvalidError(
        f"The probe {entry.info.name!r} does not fit: {why}. Fit it again, or say another at= or reduce=.",
        probe=entry.info.name,
        detail=why,
    )
