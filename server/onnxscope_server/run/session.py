"""One onnxruntime session made from a segment, and running it once."""

from __future__ import annotations

import functools
import logging
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from onnxscope_server.catalog.shared_weights import Placed, weight_bytes
from onnxscope_server.domain import Array, OptionalType, Segment, Value, ValueType
from onnxscope_server.errors import InputMismatchError, ModelInvalidError, OnnxscopeServerError, RunFailedError
from onnxscope_server.run.binding import Bindings, Target, is_written, targets, to_ort_value
from onnxscope_server.run.environment import ort
from onnxscope_server.run.failures import run_failure
from onnxscope_server.run.node_types import declared_type, described
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.values import Feed, Handle, is_carried, to_feed, to_value, to_value_of_run

_CPU = ("CPUExecutionProvider",)
_log = logging.getLogger(__name__)
_WEIGHTS_FILE = "session.optimized_model_external_initializers_file_name"
# an optimised graph names weights that the optimiser left alone by their place in the model's own file and holds the
# others; where those exceed protobuf's 2 GiB, all weights go to this file beside it
OPTIMISED_WEIGHTS = "weights"
_TOO_LARGE = "Protobuf serialization failed"

# file of an optimised graph, names of its outputs, and what is known of inputs that other segments made
Fingerprint = Callable[[Path, Sequence[str], Mapping[str, Any]], Mapping[str, Any]]
Feeds: TypeAlias = Mapping[str, "Value | Handle"]


class Session:
    """A segment that is ready to run. Threads may run it side by side.

    Args:
        segment: what it runs.
        opening: how to open it.
        exact: without optimisation.
        fingerprint: reads the optimised graph's file, beside which there may be `OPTIMISED_WEIGHTS`, for `cones` of the
            model's own outputs; None where nobody will ask.
        placed: the segment, optimised and with its weights where others map them too; None to open it as it is.

    Attributes:
        segment: what it runs.
        inputs: declared type of each input that must be given.
        optional_inputs: declared type of each input that has a default.
        outputs: declared type of each output; None where onnxruntime's notation is unknown.
        providers: execution providers that really serve it.
        byte_count: estimate of the memory that it takes for itself.
        shared: bytes of each weight that it shares with other sessions of the model.

    Raises:
        ModelInvalidError: onnxruntime refuses the segment.
        OutOfMemoryError: there is not enough memory for it.
    """

    def __init__(
        self,
        segment: Segment,
        opening: Opening,
        *,
        exact: bool,
        fingerprint: Fingerprint | None = None,
        placed: Placed | None = None,
    ) -> None:
        self.segment = segment
        self._fingerprint = fingerprint
        # ignore_cleanup_errors: the folder of a server that was killed goes with the temporary folder
        self._folder = (
            tempfile.TemporaryDirectory(prefix="onnxscope-", ignore_cleanup_errors=True)
            if fingerprint is not None
            else None
        )
        self._cones: Mapping[str, Any] | None = None
        self._lock = threading.Lock()
        try:
            self._session, self.byte_count, self.shared = self._opened(opening, placed, exact=exact)
        except BaseException:
            self._forget_optimised()
            raise
        self._native = self._session._sess  # noqa: SLF001  run_with_ort_values' wrapper costs a copy
        self._bindings = Bindings(self._native)
        self.inputs = _declared(self._session.get_inputs())
        self.optional_inputs = _declared(self._session.get_overridable_initializers())
        self.outputs = _declared(self._session.get_outputs())
        self._takes = {**self.inputs, **self.optional_inputs}
        self._required = [name for name, kind in self.inputs.items() if not isinstance(kind, OptionalType)]
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())

    @property
    def is_on_cpu(self) -> bool:
        """Whether runs compute nowhere else."""
        return self.providers == _CPU

    @property
    def keeps_optimised(self) -> bool:
        """Whether `cones` has an answer."""
        return self._fingerprint is not None

    def cones(self, given: Mapping[str, Any] = MappingProxyType({})) -> Mapping[str, Any]:
        """Returns the fingerprints of the model's own outputs, and of what is handed to other segments.

        The optimised graph's file is read once and removed.

        Args:
            given: fingerprints of what the segment is handed.
        """
        with self._lock:
            if self._cones is None:
                if self._fingerprint is None or self._optimised_file is None:
                    raise ValueError("this session was made without keep_optimised")
                names = dict.fromkeys((*self.segment.outputs, *self.segment.handed))
                self._cones = self._fingerprint(self._optimised_file, tuple(names), given)
                self._forget_optimised()
            return self._cones

    def run(
        self,
        feeds: Feeds,
        fetches: Sequence[str],
        run_options: Any = None,
        into: Mapping[str, Array] | None = None,
    ) -> dict[str, Value]:
        """Does what `run_on` does, where no other run takes anything over.

        Returns:
            Values by output name.
        """
        return self.run_on(feeds, fetches, run_options, into)[0]

    def run_on(
        self,
        feeds: Feeds,
        fetches: Sequence[str],
        run_options: Any = None,
        into: Mapping[str, Array] | None = None,
        handed: Collection[str] = (),
    ) -> tuple[dict[str, Value], dict[str, Handle]]:
        """Runs the segment once, in this thread.

        Args:
            feeds: inputs by name, values or what another run handed over; None for an optional that is not there.
            fetches: names of outputs.
            run_options: onnxruntime's; its `terminate` ends the run at the next node.
            into: arrays of exactly the shape and data type of some of the outputs, which onnxruntime then writes into;
                those of outputs that are handed over are read until the last run that takes them over.
            handed: fetches that another run takes over.

        Returns:
            Values by output name, and the handles of those that are handed over. Arrays are the caller's: nothing else
            reads or writes them, but for runs that take them over. One of `into` is among them where it could be
            written into; not so for text, sequences, packed types, values without elements, an input passed through,
            and where text, sequences or maps went into the run.

        Raises:
            InputMismatchError: an input is missing, or of another kind or data type.
            RunFailedError: onnxruntime failed.
            BoundRunFailedError: the same, where it wrote into arrays of `into`: one may have the wrong shape.
            OutOfMemoryError: there was not enough memory.
        """
        names = list(dict.fromkeys(fetches))
        if not names:
            return {}, {}
        ready = self._feeds(feeds)
        if not all(feed.is_ort_value for feed in ready.values()):
            return self._run_on_texts(ready, names, run_options), {}
        bound = targets(into, names, self.outputs) if into else {}
        try:
            if bound:
                return self._run_bound(ready, names, bound, handed, run_options)
            plain = {name: feed.value for name, feed in ready.items()}
            results = self._native.run_with_ort_values(plain, names, run_options)
            return self._taken(results, names, ready, {}, handed)
        except RunFailedError:
            raise
        except Exception as error:
            raise run_failure(error, bound=bool(bound)) from error

    def _run_bound(
        self,
        ready: Mapping[str, Feed],
        names: Sequence[str],
        bound: Mapping[str, Target],
        handed: Collection[str],
        run_options: Any,
    ) -> tuple[dict[str, Value], dict[str, Handle]]:
        binding = self._bindings.take(names)
        results = binding.run(ready, bound, run_options)
        values, handles = self._taken(results, names, ready, bound, handed)
        if len(bound) == len(names) and all(values[name] is target.array for name, target in bound.items()):
            # their OrtValues are the binding's
            handles = {name: Handle(to_ort_value(bound[name]), bound[name].array) for name in handles}
            self._bindings.give_back(binding)
        return values, handles

    def _taken(
        self,
        results: Any,
        names: Sequence[str],
        ready: Mapping[str, Feed],
        bound: Mapping[str, Target],
        handed: Collection[str],
    ) -> tuple[dict[str, Value], dict[str, Handle]]:
        """Returns values and handles of what a run returned, see `run_on`."""
        values: dict[str, Value] = {}
        handles = {}
        for index, name in enumerate(names):
            # by index: onnxruntime's vector of results takes longer to iterate than a small run takes
            result, target = results[index], bound.get(name)
            written = target.array if target is not None and is_written(target, result) else None
            if written is None:
                values[name] = to_value(name, result, self._native, feeds=ready.values())
            else:
                values[name] = written
            if name in handed:
                handles[name] = Handle(result, written)
        return values, handles

    def _run_on_texts(self, ready: Mapping[str, Feed], names: Sequence[str], run_options: Any) -> dict[str, Value]:
        """Runs where text, sequences or maps are among the inputs, which no OrtValue holds."""
        self._check_returnable(names, ready)
        wrapped = {name: ort.OrtValue(feed.value) if feed.is_ort_value else feed.value for name, feed in ready.items()}
        try:
            results = self._native.run(names, wrapped, run_options)
            return {
                name: to_value_of_run(result, self.outputs[name], feeds=ready.values())
                for name, result in zip(names, results, strict=True)
            }
        except Exception as error:
            raise run_failure(error) from error

    def _opened(self, opening: Opening, placed: Placed | None, *, exact: bool) -> tuple[Any, int, Mapping[Any, int]]:
        """Returns onnxruntime's session, its own bytes and those that it shares."""
        if placed is not None:
            try:
                session = opening.open(placed.graph, placed.folder, exact=True)
            except OnnxscopeServerError as error:
                _log.warning("a segment is opened with weights of its own: %s", error)
            else:
                if self._optimised_file is not None:
                    self._optimised_file.write_bytes(placed.optimised)
                return session, placed.own_bytes, placed.shared
        graph = self.segment.graph
        return self._open(opening, exact=exact), len(graph) + weight_bytes(graph), {}

    def _open(self, opening: Opening, *, exact: bool) -> Any:
        open_with = functools.partial(
            opening.open, self.segment.graph, self.segment.data_folder, exact=exact, optimised_file=self._optimised_file
        )
        try:
            return open_with()
        except ModelInvalidError as error:
            if self._optimised_file is None or _TOO_LARGE not in error.metadata["detail"]:
                raise
            return open_with(entries={_WEIGHTS_FILE: OPTIMISED_WEIGHTS})

    def _feeds(self, feeds: Feeds) -> dict[str, Feed]:
        missing = [name for name in self._required if feeds.get(name) is None]
        if missing:
            listed = ", ".join(f"{name} ({described(kind)})" for name, kind in self.inputs.items())
            raise InputMismatchError(
                f"input {missing[0]!r} is missing; the run needs {listed}",
                input=missing[0],
                expected=described(self.inputs[missing[0]]),
                got="nothing",
            )
        known = self._takes
        ready = {}
        for name, value in feeds.items():
            if name not in known:
                raise InputMismatchError(
                    f"there is no input {name!r}; the run takes {', '.join(known) or 'none'}",
                    input=name,
                    expected=", ".join(known),
                    got=name,
                )
            if value is not None:
                ready[name] = to_feed(name, value, known[name])
        return ready

    def _check_returnable(self, names: Sequence[str], ready: Mapping[str, Feed]) -> None:
        carried = [name for name in names if is_carried(self.outputs.get(name))]
        if carried:
            inputs = ", ".join(name for name, feed in ready.items() if not feed.is_ort_value)
            kind = described(self.outputs[carried[0]])
            detail = f"onnxruntime returns no {kind} from a run with text, sequences or maps as input"
            raise RunFailedError(
                f"{carried[0]!r} cannot be read: {detail} ({inputs}). Leave it out, or capture a Cast of it",
                detail=detail,
            )

    @property
    def _optimised_file(self) -> Path | None:
        return Path(self._folder.name) / "optimised.onnx" if self._folder is not None else None

    def _forget_optimised(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _declared(nodes: Sequence[Any]) -> dict[str, ValueType | None]:
    return {node.name: declared_type(node.type, node.shape) for node in nodes}
