"""Lists of probes, and probes of a sweep: tables when shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar, overload

from onnxscope.names import closest
from onnxscope.probes.described import DescribedProbe
from onnxscope.probes.text import interval_text, score_text
from onnxscope.show.table import Table

P = TypeVar("P", bound=DescribedProbe)


class Probes(Table[P], Generic[P]):
    """Probes of a model in the catalog; also by name: `probes["parity"]`."""

    _columns = (
        "name",
        "hook point",
        "kind",
        "task",
        "metric",
        "score",
        "95 % interval",
        "control",
        "compression",
        "fitted",
    )
    _noun = "probes"

    @overload
    def __getitem__(self, key: int | str) -> P: ...
    @overload
    def __getitem__(self, key: slice) -> Probes[P]: ...
    def __getitem__(self, key: int | str | slice) -> P | Probes[P]:
        if isinstance(key, slice):
            return Probes(self._items[key])
        if isinstance(key, str):
            for item in self._items:
                if item.name == key:
                    return item
            raise KeyError(closest(key, [item.name for item in self._items], "probe"))
        return self._items[key]

    def __contains__(self, key: object) -> bool:
        return key in self._items or any(item.name == key for item in self._items)

    def _row(self, item: P) -> Sequence[str]:
        fitted = item.fit_time.strftime("%Y-%m-%d %H:%M") if item.fit_time else ""
        report = item.report
        if report is None:
            return item.name, item.at, item.kind, item.task, "", "", "", "", "", fitted
        return (
            item.name,
            item.at,
            item.kind,
            item.task,
            report.metric,
            score_text(report.score),
            interval_text(report),
            score_text(report.control_score),
            score_text(report.compression),
            fitted,
        )
