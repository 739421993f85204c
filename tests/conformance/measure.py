"""Measures one model: are all its values listed, captured and right, and do its outputs stay as they are?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from tests.conformance.expected import expected, is_known, same
from tests.conformance.interpreter import interpret

import onnxscope
from onnxscope_server.catalog import own_functions
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.scopes import Place, scopes
from onnxscope_server.domain import Kind, Segment
from onnxscope_server.errors import OnnxscopeServerError
from onnxscope_server.run.session import Opening, Session

_RTOL = 1e-3
_LARGEST_INTERPRETED = 300_000_000
_SHOWN = 3


@dataclass
class Case:
    """A model and what to feed it; `feeds` None to make inputs up."""

    group: str
    name: str
    model: bytes | Path
    feeds: dict[str, Any] | None = None


@dataclass
class Row:
    """What was measured of one model.

    Attributes:
        group: where it comes from.
        name: which one.
        state: "measured", "not run by onnxruntime", "random", "crash" or "timeout".
        reason: why it is not measured.
        values: that nodes of the model compute, in all graphs and at every call.
        listed: of these, how many are hook points.
        captured: how many of the hook points came, unused slots and weights among them.
        checked: how many of these could be compared.
        right: how many of these are right.
        points: number of hook points.
        parts: number of parts of operators.
        parts_captured: how many of these came.
        outputs_equal: whether the outputs are those of the unmodified model, to the bit.
        problems: what went wrong, in words.
        seconds: what it took.
    """

    group: str
    name: str
    state: str = "measured"
    reason: str = ""
    values: int = 0
    listed: int = 0
    points: int = 0
    captured: int = 0
    checked: int = 0
    right: int = 0
    parts: int = 0
    parts_captured: int = 0
    outputs_equal: bool | None = None
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def measure(case: Case, scope: onnxscope.Scope) -> Row:
    """Measures one model.

    Args:
        case: which.
        scope: an embedded server, which runs with one thread, as the unmodified model does here.
    """
    start = time.perf_counter()
    row = Row(case.group, case.name)
    data, folder = _bytes(case.model)
    try:
        plain = Session(_plain(data, folder), Opening(intra_op_threads=1), exact=False)
    except OnnxscopeServerError as error:
        row.state, row.reason = "not run by onnxruntime", str(error)[:300]
        return row
    found = _outputs(plain, case)
    if found is None:
        row.state, row.reason = "not run by onnxruntime", "it does not run on these inputs, nor on made-up ones"
        return row
    feeds, outputs = found
    again = plain.run(feeds, list(outputs))
    if not all(same(again[name], value, rtol=0, atol=0) for name, value in outputs.items()):
        row.state, row.reason = "random", "two runs of the unmodified model differ"
    del plain
    try:
        model = scope.load(case.model, name="model")
        try:
            _measured(row, data, folder, model, feeds, outputs)
        finally:
            scope.unload("model")
    except Exception as error:  # noqa: BLE001 -- whatever goes wrong is what is measured
        row.problems.append(f"{type(error).__name__}: {str(error)[:300]}")
    row.seconds = round(time.perf_counter() - start, 2)
    return row


def _measured(
    row: Row,
    data: bytes,
    folder: Path | None,
    model: onnxscope.Model,
    feeds: Mapping[str, Any],
    outputs: Mapping[str, Any],
) -> None:
    parsed = CatalogModel.from_bytes(data, folder)
    places = parsed.contents.places(expand=False)
    points = {point.address: point for point in model.hook_points(list(places))}
    row.points = len(points)
    made = _made(data)
    row.values = len(made)
    row.listed = len(made & {places[address] for address in points if address in places})
    acts = _captured(row, model, feeds, list(points), expand=False)
    row.captured = len(acts)
    whole = model.capture(feeds, at="*" if any(p.kind == "activation" for p in points.values()) else (), timeout=300)
    row.outputs_equal = row.state == "random" or all(
        same(whole.outputs[name], value, rtol=0, atol=0) for name, value in outputs.items()
    )
    if not row.outputs_equal:
        row.problems.append("outputs differ")
    if row.state == "measured" and _size(acts) < _LARGEST_INTERPRETED:
        _compare(row, data, folder, places, points, acts, feeds)
    parts = [address for address in parsed.contents.places(expand=True) if address not in places]
    row.parts = len(parts)
    if parts:
        row.parts_captured = len(_captured(row, model, feeds, parts, expand=True))


def _compare(
    row: Row,
    data: bytes,
    folder: Path | None,
    places: Mapping[str, Place],
    points: Mapping[str, Any],
    acts: Mapping[str, Any],
    feeds: Mapping[str, Any],
) -> None:
    proto = onnx.ModelProto.FromString(data)
    own_functions.give(proto)
    try:
        record = interpret(proto, feeds, str(folder or ""))
    except Exception as error:  # noqa: BLE001 -- no truth for this one
        row.problems.append(f"no truth: {type(error).__name__}: {str(error)[:200]}")
        return
    wrong = []
    for address, got in acts.items():
        if points[address].kind == Kind.UNUSED:
            continue
        wanted = expected(record, places[address])
        if not is_known(wanted):
            continue
        row.checked += 1
        if same(got, wanted, rtol=_RTOL, atol=_RTOL * _scale(wanted)):
            row.right += 1
        else:
            wrong.append(address)
    if wrong:
        row.problems.append(f"{len(wrong)} wrong: {wrong[:_SHOWN]}")


def _captured(
    row: Row, model: onnxscope.Model, feeds: Mapping[str, Any], addresses: list[str], *, expand: bool
) -> dict[str, Any]:
    """Captures hook points, all at once; where that fails, by halves."""
    try:
        return dict(model.capture(feeds, at=addresses, outputs=False, expand=expand, timeout=300)) if addresses else {}
    except onnxscope.OnnxscopeError as error:
        if len(addresses) == 1:
            row.problems.append(f"{addresses[0]}: {type(error).__name__}: {str(error)[:200]}")
            return {}
    half = len(addresses) // 2
    found = _captured(row, model, feeds, addresses[:half], expand=expand)
    return found | _captured(row, model, feeds, addresses[half:], expand=expand)


def _made(data: bytes) -> set[Place]:
    """Lists the values that nodes compute, independently of hook points."""
    proto = onnx.ModelProto.FromString(data)
    own_functions.give(proto)
    return {
        Place(scope.path, name) for scope in scopes(proto) for node in scope.holder.node for name in node.output if name
    }


def _bytes(model: bytes | Path) -> tuple[bytes, Path | None]:
    return (model, None) if isinstance(model, bytes) else (model.read_bytes(), model.parent)


def _plain(data: bytes, folder: Path | None) -> Segment:
    proto = onnx.ModelProto.FromString(data)
    given = {tensor.name for tensor in proto.graph.initializer}
    inputs = tuple(item.name for item in proto.graph.input if item.name not in given)
    return Segment(data, folder, {}, tuple(item.name for item in proto.graph.output), inputs, {}, len(proto.graph.node))


def _outputs(plain: Session, case: Case) -> tuple[dict[str, Any], dict[str, Any]] | None:
    from tests.conformance.made_up import attempts

    candidates = [case.feeds] if case.feeds is not None else []
    for feeds in (*candidates, *attempts(plain.inputs)):
        try:
            known = {
                name: value for name, value in feeds.items() if name in plain.inputs or name in plain.optional_inputs
            }
            return known, plain.run(known, list(dict.fromkeys(plain.segment.outputs)))
        except OnnxscopeServerError:
            continue
    return None


def _scale(wanted: Any) -> float:
    if isinstance(wanted, list):
        return max((_scale(item) for item in wanted), default=0.0)
    if wanted is None or isinstance(wanted, dict):
        return 0.0
    array = np.asarray(wanted)
    if array.dtype.kind in "OUSb" or not array.size:
        return 0.0
    wide = np.abs(array.astype(np.complex128 if array.dtype.kind == "c" else np.float64))
    finite = wide[np.isfinite(wide)]
    return float(finite.max()) if finite.size else 0.0


def _size(acts: Mapping[str, Any]) -> int:
    return sum(value.nbytes for value in acts.values() if isinstance(value, np.ndarray))
