"""One stream: which rows are under way, and which results belong to them. Shared by `client` and `aio`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from onnxscope import progress as bars
from onnxscope.ask import Ask, CollectedStream
from onnxscope.encode import SentValue
from onnxscope.padding import Padding
from onnxscope.receive import Event
from onnxscope.results import Activations
from onnxscope.rows import Piece, Rows


class Streaming:
    """The state of one stream.

    Args:
        ask: what is asked for every batch.
        X: the data set, see `Rows`.
        carry: output name to input name.
        batch_size: rows at once.
        preprocess: called with every batch.
        progress: see `progress.of`.
    """

    def __init__(
        self,
        ask: Ask,
        X: Any,  # noqa: N803  # the contract's name
        *,
        carry: Mapping[str, str] | None,
        batch_size: int,
        preprocess: Callable[[Any], Any] | None,
        progress: Any,
    ) -> None:
        self.ask = ask
        self.carry = dict(carry or {})
        self.rows = Rows(
            X,
            ask.model,
            batch_size=batch_size,
            preprocess=preprocess,
            carried=self.carry.values(),
        )
        self.padding = Padding(ask)
        self._tell = bars.of(progress)
        self._total = self.rows.total
        self._done = 0
        self._under_way: deque[Piece] = deque()
        self._collected = CollectedStream()

    def send(self, piece: Piece) -> list[SentValue]:
        """Returns what is sent for a piece, and remembers the piece."""
        values = self.ask.piece_values(piece)
        self._under_way.append(piece)
        return values

    def batches(self) -> Iterator[list[SentValue]]:
        """Yields what is sent for every piece."""
        for piece in self.rows.pieces():
            yield self.send(piece)

    def take(self, event: Event) -> tuple[Activations, Piece] | None:
        """Takes an event; returns the result that it completes, and whose it is."""
        acts = self._collected.take(event)
        if acts is None:
            return None
        piece = self._under_way.popleft()
        self._done += piece.row_count
        self._tell(self._done, self._total)
        return acts, piece
