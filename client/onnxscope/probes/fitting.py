"""One fit or sweep: what is sent, and what its answer comes to. Shared by `client` and `aio`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from onnxscope import progress as bars
from onnxscope import reduce as reductions
from onnxscope import selectors
from onnxscope.encode import SentValue
from onnxscope.errors import StreamCutError, ValueInvalidError
from onnxscope.probes.described import DescribedProbe
from onnxscope.probes.labelled import GROUPS, LABELS, TEST, WEIGHTS, Labelled, LabelledPiece
from onnxscope.probes.spec import UNSUPERVISED, Options, add_reductions
from onnxscope.probes.sweep import Sweep
from onnxscope.results import HookPoint
from onnxscope.rows import Rows
from onnxscope.v1 import model_service_pb2 as model_pb
from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope.v1 import tensor_pb2
from onnxscope.v1.codec import Array

P = TypeVar("P", bound=DescribedProbe)
FIT, SWEEP = "ProbeService/FitProbe", "ProbeService/Sweep"
CAPTURE = "capture"
ACTIVATIONS = "activations"
_ROLES = {
    LABELS: tensor_pb2.VALUE_ROLE_LABEL,
    GROUPS: tensor_pb2.VALUE_ROLE_GROUP,
    WEIGHTS: tensor_pb2.VALUE_ROLE_WEIGHT,
    TEST: tensor_pb2.VALUE_ROLE_TEST,
}
# what the rows of a fit without a model are
_AT_HAND = model_pb.Model(
    inputs=[
        tensor_pb2.ValueSpec(
            name=ACTIVATIONS,
            type=tensor_pb2.ValueType(
                tensor=tensor_pb2.TensorType(
                    data_type=tensor_pb2.DATA_TYPE_FLOAT32,
                    shape=tensor_pb2.Shape(
                        dimensions=[tensor_pb2.Dimension(symbol="row"), tensor_pb2.Dimension(symbol="feature")]
                    ),
                )
            ),
        )
    ]
)


class Fitting:
    """The state of one fit or sweep.

    Args:
        method: `FIT` or `SWEEP`.
        name: of the probe, or of the sweep; None lets the server choose the sweep's.
        model: whose activations are learned from; None where the rows are activations.
        X: the data set, see `Labelled`.
        y: its labels.
        at: selectors of hook points.
        reduce: as of a capture.
        options: how to fit.
        groups: as of `Labelled`.
        sample_weight: as of `Labelled`.
        test: as of `Labelled`.
        batch_size: rows at once.
        preprocess: called with every batch.
        progress: see `progress.staged`.

    Attributes:
        method: the same.
        spec: the message that opens the call.
        probes: that are finished, by address.
        failures: why a sweep has no probe of other hook points, by address.
        completed: the end of a sweep.
        data: the probe's file, where there is no model.
    """

    def __init__(
        self,
        method: str,
        name: str | None,
        model: model_pb.Model | None,
        X: Any,  # noqa: N803  # the contract's name
        y: Any,
        *,
        options: Options,
        at: Any = (),
        reduce: Any = None,
        groups: Any = None,
        sample_weight: Any = None,
        test: Any = None,
        batch_size: int = 32,
        preprocess: Callable[[Any], Any] | None = None,
        progress: Any = None,
    ) -> None:
        if options.cv is not None and test is not None:
            raise ValueInvalidError(
                "cv= holds out every row once, test= says which rows are held out: give one of them"
            )
        chosen = selectors.normalise(at)
        rules = reductions.rules(reduce, chosen)
        self.method = method
        self.spec = options.message("" if name is None else name)
        if model is not None:
            self.spec.model = model.digest
        self.spec.selectors.extend(chosen)
        self._masks: Mapping[str, Array] = add_reductions(self.spec, rules)
        if self._masks and isinstance(test, tuple):
            raise ValueInvalidError(
                "a mask that is an array has the rows of X, and (X_test, y_test) brings others: name an input as mask, "
                "or give the test rows as part of X and say which they are"
            )

        def cut(data: Any) -> Rows:
            return Rows(data, model or _AT_HAND, batch_size=batch_size, preprocess=preprocess)

        self._labelled = Labelled(
            X,
            y,
            cut,
            supervised=options.kind not in UNSUPERVISED,
            per_position=any(rule.kind == "positions" for _, rule in rules),
            groups=groups,
            sample_weight=sample_weight,
            test=test,
        )
        self._bar = bars.staged(progress, CAPTURE)
        self._is_done = False
        self.probes: dict[str, pb.Probe] = {}
        self.failures: dict[str, str] = {}
        self.completed: pb.SweepCompleted | None = None
        self.data = bytearray()

    def batches(self) -> Iterator[list[SentValue]]:
        """Yields what is sent for every piece."""
        for piece in self._labelled.pieces():
            yield self._sent(piece)

    async def batches_async(self) -> AsyncIterator[list[SentValue]]:
        """As `batches`; a data set that blocks does so in a thread."""
        if not self._labelled.is_asynchronous:
            batches = self.batches()
            while (values := await asyncio.to_thread(next, batches, None)) is not None:
                yield values
            return
        for part in self._labelled.parts:
            if hasattr(part.rows.data, "__aiter__"):
                async for item in part.rows.data:
                    for piece in await asyncio.to_thread(part.cut, item):
                        yield self._sent(piece)
                part.end()
            else:
                for piece in part.pieces():
                    yield self._sent(piece)

    def take(self, response: pb.FitProbeResponse | pb.SweepResponse) -> None:
        """Takes the next message of the answer."""
        match response.WhichOneof("event"):
            case "progress":
                self._progress(response.progress)
            case "probe":
                self.probes[response.probe.address] = response.probe
                self._is_done = self.method == FIT
            case "data" if isinstance(response, pb.FitProbeResponse):
                self.data += response.data
            case "failure" if isinstance(response, pb.SweepResponse):
                self.failures[response.failure.address] = response.failure.message
            case "completed" if isinstance(response, pb.SweepResponse):
                self.completed = response.completed
                self._bar.tell("export", len(self.probes), len(self.probes))
                self._is_done = True

    def over(self) -> None:
        """Says that nothing more comes, whatever came of it."""
        self._bar.end()

    def end(self) -> None:
        """Says that the answer has ended.

        Raises:
            StreamCutError: it did so before the probe or the end of the sweep was there.
        """
        if not self._is_done:
            raise StreamCutError("the server's answer ended before the probe was there; ask again")

    @property
    def probe(self) -> pb.Probe:
        """The probe of a fit."""
        (found,) = self.probes.values()
        return found

    def sweep(self, probes: Mapping[str, P], points: Sequence[HookPoint]) -> Sweep[P]:
        """Returns a finished sweep.

        Args:
            probes: by address.
            points: their hook points, in order.
        """
        ended = self.completed or pb.SweepCompleted()
        kept = (probe.name.removesuffix(f"/{address}") for address, probe in probes.items())
        return Sweep(
            self.spec.name or next(kept, ""),
            self.spec.kind,
            probes,
            points,
            data_digest=ended.data_digest,
            resumed_count=ended.resumed_count,
            failures=self.failures,
        )

    def _sent(self, labelled: LabelledPiece) -> list[SentValue]:
        piece = labelled.piece
        sent = [SentValue(tensor_pb2.VALUE_ROLE_INPUT, name, value) for name, value in piece.values.items()]
        sent += [SentValue(tensor_pb2.VALUE_ROLE_MASK, name, piece.rows_of(mask)) for name, mask in self._masks.items()]
        return sent + [SentValue(_ROLES[name], name, array) for name, array in labelled.beside.items()]

    def _progress(self, told: pb.FitProgress) -> None:
        if told.stage == CAPTURE:
            self._bar.tell(told.stage, told.row_count, self._labelled.total)
        else:
            self._bar.tell(told.stage, told.done_count, told.total_count or None)
