"""Measures one model: are all its values listed, captured and right, and do its outputs stay as they are?"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from tests.conformance.expected import expected, is_known, same
from tests.conformance.interpreter import Record, interpret

import onnxscope
from onnxscope_server.catalog import functions, own_functions, parts
from onnxscope_server.catalog.description import Kind
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.parts import Expansion
from onnxscope_server.catalog.scopes import OWN_DOMAINS, Place, anchor_of, scopes
from onnxscope_server.domain import Segment
from onnxscope_server.errors import OnnxscopeServerError
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.session import Session
from onnxscope_server.run.trial import Knowledge

_RTOL = 1e-3
_SHORT = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
# onnxruntime's Sigmoid and Tanh are off by an eps of 1, also where they are near 0
_ATOL = 1e-6
_LARGEST_INTERPRETED = 4_000_000_000
_SHOWN = 3
_OPENING = Opening(intra_op_threads=1)


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
        parts_checked: how many of these could be compared.
        parts_right: how many of these are right.
        sums: number of operators that could be compared with what their parts make together.
        sums_right: how many of these are equal.
        outputs_equal: whether the outputs are those of the unmodified model, to the bit; None where these are random.
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
    parts_checked: int = 0
    parts_right: int = 0
    sums: int = 0
    sums_right: int = 0
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
        plain = Session(_plain(data, folder), _OPENING, exact=False)
    except OnnxscopeServerError as error:
        row.state, row.reason = "not run by onnxruntime", str(error)[:300]
        return row
    found = _outputs(plain, case)
    if found is None:
        row.state, row.reason = "not run by onnxruntime", "it does not run on these inputs, nor on made-up ones"
        return row
    feeds, outputs = found
    del plain
    repeats = _repeats(data, folder, feeds, outputs)
    if not repeats:
        row.state, row.reason = "random", "two sessions of the unmodified model differ"
    elif not _repeats(data, folder, feeds, None):
        row.state, row.reason = "random", "two sessions of the unoptimised model differ"
    try:
        model = scope.load(case.model, name="model")
        try:
            _measured(row, data, folder, model, feeds, outputs if repeats else {})
        finally:
            scope.unload("model")
    except Exception as error:  # noqa: BLE001 -- whatever goes wrong is what is measured
        row.problems.append(f"{type(error).__name__}: {str(error)[:300]}")
    row.seconds = round(time.perf_counter() - start, 2)
    return row


def _repeats(data: bytes, folder: Path | None, feeds: Mapping[str, Any], outputs: Mapping[str, Any] | None) -> bool:
    """Tells whether a second session gives the same outputs; without `outputs`, two that don't optimise."""
    segment = _plain(data, folder)
    names = list(dict.fromkeys(segment.outputs))
    exact = outputs is None
    if outputs is None:
        outputs = Session(segment, _OPENING, exact=True).run(feeds, names)
    again = Session(segment, _OPENING, exact=exact).run(feeds, names)
    return all(same(again[name], value, rtol=0, atol=0) for name, value in outputs.items())


def _measured(
    row: Row,
    data: bytes,
    folder: Path | None,
    model: onnxscope.Model,
    feeds: Mapping[str, Any],
    outputs: Mapping[str, Any],
) -> None:
    parsed = CatalogModel.from_bytes(data, folder, Knowledge())
    places = parsed.contents.places(expand=False)
    points = {point.address: point for point in model.hook_points(list(places))}
    row.points = len(points)
    made = _made(data)
    row.values = len(made)
    row.listed = len(made & {places[address] for address in points if address in places})
    acts = _captured(row, model, feeds, list(points), expand=False)
    row.captured = len(acts)
    whole = model.capture(feeds, at="*" if any(p.kind == "activation" for p in points.values()) else (), timeout=300)
    if outputs:
        row.outputs_equal = all(same(whole.outputs[name], value, rtol=0, atol=0) for name, value in outputs.items())
        if not row.outputs_equal:
            row.problems.append("outputs differ")
    added = [address for address in parsed.contents.places(expand=True) if address not in places]
    row.parts = len(added)
    of_parts = _captured(row, model, feeds, added, expand=True)
    row.parts_captured = len(of_parts)
    if row.state != "measured":
        return
    if _size(acts) + _size(of_parts) > _LARGEST_INTERPRETED:
        row.problems.append("no truth: too large to be interpreted")
        return
    proto = _called(data)
    expansions = list({id(item): item for item in parsed.contents.parts.values()}.values())
    parts.add(proto, expansions)
    try:
        record = interpret(proto, feeds, str(folder or ""))
    except Exception as error:  # noqa: BLE001 -- no truth for this one
        row.problems.append(f"no truth: {type(error).__name__}: {str(error)[:200]}")
        return
    used = {address: got for address, got in acts.items() if points[address].kind != Kind.UNUSED}
    truth = _Truth(record, proto, folder, feeds, model)
    row.checked, row.right = _compared(row, truth, used, places, expand=False)
    row.parts_checked, row.parts_right = _compared(
        row, truth, of_parts, parsed.contents.places(expand=True), expand=True
    )
    # the parts of onnxruntime's own operators end before the last step
    nodes = [(one.path, node) for one in scopes(proto) for node in one.holder.node]
    own = {Place(path, anchor_of(node)) for path, node in nodes if node.domain in OWN_DOMAINS}
    _summed(row, truth, [expansion for expansion in expansions if expansion.anchor in own])


class _Truth:
    """What values should be.

    An interpreter computes every node by itself. Some models, quantised ones above all, make much of the last bits,
    which depend on how nodes are computed together: where the interpreter differs, naive exposure of the whole main
    graph decides, and then whether the interpreter agrees with a capture without optimisation.
    """

    def __init__(
        self,
        record: Record,
        proto: onnx.ModelProto,
        folder: Path | None,
        feeds: Mapping[str, Any],
        model: onnxscope.Model,
    ) -> None:
        self.record = record
        self._model = model
        self._proto = proto
        self._folder = folder
        self._feeds = feeds

    def has(self, place: Place) -> bool:
        return is_known(expected(self.record, place))

    def agrees(self, address: str, place: Place, got: Any, *, expand: bool) -> bool:
        wanted = expected(self.record, place)
        if _close(got, wanted):
            return True
        if not place.path and place.name in self._naive and _close(got, self._naive[place.name]):
            return True
        exact = self._model.capture(self._feeds, at=address, outputs=False, exact=True, expand=expand, timeout=300)
        return _close(exact[address], wanted)

    @functools.cached_property
    def _naive(self) -> dict[str, Any]:
        """Every value of the main graph, as a graph without types gives them that has them all as outputs."""
        names = list(dict.fromkeys(name for node in self._proto.graph.node for name in node.output if name))
        del self._proto.graph.output[:]
        self._proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        try:
            plain = Session(_plain(self._proto.SerializeToString(), self._folder), _OPENING, exact=False)
            return plain.run(self._feeds, names)
        except OnnxscopeServerError:
            return {}


def _compared(
    row: Row, truth: _Truth, acts: Mapping[str, Any], places: Mapping[str, Place], *, expand: bool
) -> tuple[int, int]:
    """Returns how many activations could be compared, and how many are right."""
    known = {address: got for address, got in acts.items() if truth.has(places[address])}
    wrong = [name for name, got in known.items() if not truth.agrees(name, places[name], got, expand=expand)]
    if wrong:
        row.problems.append(f"{len(wrong)} wrong: {wrong[:_SHOWN]}")
    return len(known), len(known) - len(wrong)


def _summed(row: Row, truth: _Truth, expansions: Sequence[Expansion]) -> None:
    """Compares what operators give with what their parts make together, or with some step of it."""
    for expansion in expansions:
        path = expansion.anchor.path
        whole = expected(truth.record, expansion.anchor)
        made = [expected(truth.record, Place(path, name)) for node in expansion.nodes for name in node.output if name]
        made = [value for value in made if isinstance(value, np.ndarray)]
        if not isinstance(whole, np.ndarray) or not made:
            continue
        row.sums += 1
        if any(_is_sum(value, whole) for value in made):
            row.sums_right += 1
        else:
            row.problems.append(f"the parts of {expansion.anchor.name} make something else")


def _close(got: Any, wanted: Any) -> bool:
    dtype = getattr(wanted, "dtype", None)
    atol = _ATOL if dtype not in _SHORT else float(ml_dtypes.finfo(dtype).eps)
    return same(got, wanted, rtol=_RTOL, atol=atol + _RTOL * _scale(wanted))


def _is_sum(value: np.ndarray, whole: np.ndarray) -> bool:
    """Tells whether a value is all of what an operator gives, or has it among its steps, each direction in its own."""
    if _close(value, whole):
        return True
    if value.ndim != whole.ndim + 1 or value.shape[1:] != whole.shape or not whole.ndim:
        return False
    return all(
        any(_close(step, of_direction) for step in value[:, direction]) for direction, of_direction in enumerate(whole)
    )


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
    proto = _called(data)
    return {
        Place(scope.path, name) for scope in scopes(proto) for node in scope.holder.node for name in node.output if name
    }


def _called(data: bytes) -> onnx.ModelProto:
    """Parses a model; its functions are those that onnxruntime runs, each call with one of its own."""
    proto = onnx.ModelProto.FromString(data)
    functions.without_operators(proto, Knowledge())
    own_functions.give(proto)
    return proto


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
