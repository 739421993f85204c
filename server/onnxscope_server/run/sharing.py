"""Lets all sessions of a model map its weights, instead of each holding its own.

    segment ─> optimised by onnxruntime, weights as references ─> placed (catalog) ─> opened as it is

What is opened is what onnxruntime would have made of the segment in one step, and gives the same bits.
"""

from __future__ import annotations

import ctypes
import logging
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnxscope_server.catalog.shared_weights import (
    LEAST_BYTES,
    PACKED_GRAPH,
    PACKED_WEIGHTS,
    Placed,
    SharedWeights,
    weight_bytes,
    with_inputs_of,
)
from onnxscope_server.domain import Segment
from onnxscope_server.errors import OnnxscopeServerError
from onnxscope_server.run.environment import ort
from onnxscope_server.run.opening import Opening

_log = logging.getLogger(__name__)
_LEAST_MODEL_BYTES = 8 << 20
# packing reads and writes all of them; of larger models onnxruntime maps what is not packed, in every session
_MOST_MODEL_BYTES = 1 << 30
# a weight, its packed form, and what the optimiser made of it before it was packed
_FORMS = 3
_WRITE_PACKED = {
    "session.optimized_model_external_initializers_file_name": PACKED_WEIGHTS,
    "session.save_external_prepacked_constant_initializers": "1",
}
_NOT_PACKED = {"session.disable_prepacking": "1"}


@dataclass(slots=True)
class _Model:
    """A model's weights; None before somebody asks, and where they are not shared."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    is_known: bool = False
    weights: SharedWeights | None = None


def can_share(opening: Opening) -> bool:
    """Tells whether sessions can share weights: on the CPU, opened by options of our own."""
    return (
        opening.session_options is None
        and opening.providers == ("CPUExecutionProvider",)
        and hasattr(ort, "ModelCompiler")
        and hasattr(ort, "OrtExternalInitializerInfo")
    )


class Sharing:
    """Makes segments ready to be opened with shared weights. Safe to use from many threads.

    Args:
        opening: how the server opens sessions.
        folder: for the weights, nobody else's; what is in it goes.
        plain: gives the unmodified model, by digest; raises ModelNotFoundError.
        max_bytes: of all files; the least recently used model's go first, and a model too large for it is not shared.
    """

    def __init__(self, opening: Opening, folder: Path, plain: Callable[[str], Segment], *, max_bytes: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._opening = opening
        self._folder = folder
        self._plain = plain
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._models: OrderedDict[str, _Model] = OrderedDict()

    def prepare(self, digest: str) -> None:
        """Packs a model's weights where that was not done yet; a failure is logged, and they are not shared then."""
        self._weights(digest)

    def placed(self, digest: str, segment: Segment, *, exact: bool) -> Placed | None:
        """Makes a segment ready.

        Args:
            digest: of its model.
            segment: what will be opened.
            exact: without optimisation.

        Returns:
            The graph to open; None where the segment has to be opened as it is.
        """
        weights = self._weights(digest) if segment.data_folder is not None else None
        if weights is None:
            return None
        try:
            return weights.placed(self._optimised(segment, weights, exact=exact))
        except Exception as error:  # noqa: BLE001  whatever it is: opening the segment as it is tells what is wrong
            _log.warning("a segment of model %s does not share its weights: %s", digest, error)
            return None

    def forget(self, digest: str) -> None:
        """Deletes a model's weights; sessions that map them live on."""
        with self._lock:
            model = self._models.pop(digest, None)
        if model is not None:
            with model.lock:
                if model.weights is not None:
                    model.weights.remove()

    def close(self) -> None:
        """Deletes everything."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _weights(self, digest: str) -> SharedWeights | None:
        with self._lock:
            model = self._models.setdefault(digest, _Model())
            self._models.move_to_end(digest)
        with model.lock:
            is_new = not model.is_known
            if is_new:
                model.weights = self._packed(digest)
                model.is_known = True
        if is_new:
            self._shrink(digest)
        return model.weights

    def _packed(self, digest: str) -> SharedWeights | None:
        weights = None
        try:
            segment = self._plain(digest)
            if segment.data_folder is None or not self._has_room(segment):
                return None
            weights = SharedWeights(self._folder / digest, segment.data_folder)
            optimised = self._optimised(segment, weights, exact=False)
            weights.pack(optimised, self._write)
            self._try(weights, optimised, digest)
        except Exception as error:  # noqa: BLE001  sessions can do without
            _log.warning("the weights of model %s are not shared: %s", digest, error)
            if weights is not None:
                weights.remove()
            return None
        return weights

    def _optimised(self, segment: Segment, weights: SharedWeights, *, exact: bool) -> bytes:
        """Returns what onnxruntime makes of a segment before it opens it; what it made of weights is kept."""

        def keep(_: str, value: Any, own_place: Any) -> Any:
            size = value.tensor_size_in_bytes()
            if own_place is not None:
                return own_place
            if size < LEAST_BYTES or value.data_type() == "tensor(string)":
                return None
            content = memoryview((ctypes.c_char * size).from_address(value.data_ptr())).cast("B")
            return ort.OrtExternalInitializerInfo(weights.keep(content), 0, size)

        levels = ort.GraphOptimizationLevel
        with self._opening.options(segment.data_folder, exact=exact, entries=_NOT_PACKED) as options:
            compiler = ort.ModelCompiler(
                options,
                segment.graph,
                embed_compiled_data_into_model=True,
                graph_optimization_level=levels.ORT_DISABLE_ALL if exact else levels.ORT_ENABLE_ALL,
                get_initializer_location_func=keep,
            )
            optimised: bytes = compiler.compile_to_bytes()
        return with_inputs_of(optimised, segment.graph)

    def _write(self, graph: bytes, data_folder: Path, folder: Path) -> None:
        self._opening.open(graph, data_folder, exact=True, optimised_file=folder / PACKED_GRAPH, entries=_WRITE_PACKED)

    def _try(self, weights: SharedWeights, optimised: bytes, digest: str) -> None:
        """Does without packed forms that onnxruntime does not take again as it wrote them."""
        placed = weights.placed(optimised)
        try:
            self._opening.open(placed.graph, placed.folder, exact=True)
        except OnnxscopeServerError as error:
            _log.warning("sessions of model %s pack their weights themselves: %s", digest, error)
            weights.unpack()

    def _has_room(self, segment: Segment) -> bool:
        size = weight_bytes(segment.graph)
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        if _LEAST_MODEL_BYTES <= size <= _MOST_MODEL_BYTES and _FORMS * size > free:
            _log.warning("weights of %d bytes are not shared: %d bytes are free in %s", size, free, self._folder)
        return _LEAST_MODEL_BYTES <= size <= _MOST_MODEL_BYTES and _FORMS * size <= min(free, self._max_bytes)

    def _shrink(self, kept: str) -> None:
        while True:
            with self._lock:
                sizes = {digest: model.weights.byte_count for digest, model in self._models.items() if model.weights}
            others = [digest for digest in sizes if digest != kept]
            if sum(sizes.values()) <= self._max_bytes or not others:
                return
            self.forget(others[0])
