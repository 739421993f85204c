"""A sweep: probes of one kind at many hook points, by address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from onnxscope.errors import DataInvalidError
from onnxscope.names import closest
from onnxscope.probes.described import DescribedProbe
from onnxscope.probes.text import interval_text, score_text
from onnxscope.results import HookPoint
from onnxscope.show.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onnxscope.probes.report import ProbeReport

P = TypeVar("P", bound=DescribedProbe)
_NUMBERS = (
    "baseline",
    "train_score",
    "input_score",
    "control_score",
    "selectivity",
    "codelength_bits",
    "compression",
    "baseline_compression",
    "shuffled_score",
    "n_train",
    "n_test",
    "seed",
)
# those of a table that are left out where no probe has them
_OPTIONAL = ("baseline", "input", "control", "selectivity", "bits", "compression", "shuffled")


class SweepTable(Table[Sequence[str]]):
    """What a sweep found, a row a hook point."""

    _noun = "hook points"

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        super().__init__(rows)
        self._columns = columns

    @property
    def columns(self) -> tuple[str, ...]:
        """The headings."""
        return tuple(self._columns)

    def __getitem__(self, key: Any) -> Any:
        return self._items[key]

    def _row(self, item: Sequence[str]) -> Sequence[str]:
        return item


class Sweep(Mapping[str, P], Generic[P]):
    """Probes by the address of their hook point, in the order in which the model computes it.

    Args:
        name: that the probes are kept under: NAME/ADDRESS.
        kind: of the probes.
        probes: by address.
        points: their hook points, in order.
        data_digest: of rows and labels.
        resumed_count: how many an earlier sweep of this name had finished.
        failures: why there is no probe of other hook points, by their address.

    Attributes:
        name: the same.
        kind: the same.
        data_digest: the same.
        resumed_count: the same.
        failures: the same.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        probes: Mapping[str, P],
        points: Sequence[HookPoint],
        *,
        data_digest: str = "",
        resumed_count: int = 0,
        failures: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.data_digest = data_digest
        self.resumed_count = resumed_count
        self.failures: Mapping[str, str] = dict(failures or {})
        self._points = {point.address: point for point in points if point.address in probes}
        order = [*self._points, *(address for address in probes if address not in self._points)]
        self._probes = {address: probes[address] for address in order}

    def __getitem__(self, address: str) -> P:
        try:
            return self._probes[address]
        except KeyError:
            raise KeyError(closest(address, self._probes, "hook point of this sweep")) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._probes)

    def __len__(self) -> int:
        return len(self._probes)

    def __repr__(self) -> str:
        metric = next((probe.report.metric for probe in self.values() if probe.report), "")
        lines = [f"sweep {self.name!r}: {self.kind}, {metric}", repr(self.table())]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, *(f"no probe: {why}" for why in self.failures.values())])

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the table must know: notes of the reports, with the hook points where only some have one."""
        where: dict[str, list[str]] = {}
        for address, probe in self.items():
            for note in _notes(probe.report) if probe.report else ():
                where.setdefault(note, []).append(address)
        return tuple(
            note if len(addresses) == len(self) else f"{', '.join(addresses)}: {note}"
            for note, addresses in where.items()
        )

    def best(self) -> P:
        """Returns the probe with the best score, of equal ones the first that the model computes.

        Raises:
            DataInvalidError: no probe has a score.
        """
        scored = [probe for probe in self.values() if probe.report and probe.report.score == probe.report.score]
        if not scored:
            raise DataInvalidError("no probe of this sweep has a score")

        def merit(probe: P) -> float:
            report = probe.report
            return 0.0 if report is None else -report.score if report.lower_is_better else report.score

        return max(scored, key=merit)

    def records(self) -> list[dict[str, Any]]:
        """Returns a row a hook point as plain values: what `to_pandas` makes a frame of."""
        return [self._record(address, probe) for address, probe in self.items()]

    def table(self) -> SweepTable:
        """Returns what was found as a table for print; what was not measured has no column."""
        rows = [self._texts(address, probe) for address, probe in self.items()]
        columns = [
            name
            for name in (rows[0] if rows else {"hook point": ""})
            if name not in _OPTIONAL or any(row[name] for row in rows)
        ]
        return SweepTable(columns, [[row[name] for name in columns] for row in rows])

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`, a row a hook point with the address as index.

        Raises:
            ModuleNotFoundError: pandas is not installed; `pip install 'onnxscope[plot]'` brings it.
        """
        try:
            import pandas as pd  # noqa: PLC0415  # an extra brings it
        except ModuleNotFoundError as error:
            raise _missing(error, "to_pandas") from error
        return pd.DataFrame(self.records()).set_index("address")

    def plot(self) -> Figure:
        """Draws the score with its interval at each hook point, with baseline, control, input and compression.

        Raises:
            ModuleNotFoundError: matplotlib is not installed; `pip install 'onnxscope[plot]'` brings it.
        """
        try:
            from onnxscope.show import probe_plots  # noqa: PLC0415  # an extra brings what it needs
        except ModuleNotFoundError as error:
            raise _missing(error, "plot") from error
        return probe_plots.scores_by_depth(self.records(), title=f"{self.name}: {self.kind}")

    def _record(self, address: str, probe: P) -> dict[str, Any]:
        point = self._points.get(address)
        report = probe.report
        found: dict[str, Any] = {
            "address": address,
            "op_type": point.op_type if point else "",
            "depth": point.depth if point else None,
            "probe": probe.name,
        }
        if report is not None:
            found |= {"metric": report.metric, "score": report.score}
            found |= report.interval._asdict()
            found |= {name: getattr(report, name) for name in _NUMBERS}
        return found

    def _texts(self, address: str, probe: P) -> dict[str, str]:
        point = self._points.get(address)
        report = probe.report
        texts = {
            "hook point": address,
            "operator": point.op_type if point else "",
            "depth": f"{point.depth:.2f}" if point else "",
        }
        return texts | {
            (report.metric if report else "score"): score_text(report.score) if report else "",
            "95 % interval": interval_text(report) if report else "",
            "baseline": score_text(report.baseline) if report else "",
            "input": score_text(report.input_score) if report else "",
            "control": score_text(report.control_score) if report else "",
            "selectivity": score_text(report.selectivity) if report else "",
            "bits": f"{report.codelength_bits:.0f}" if report and report.codelength_bits is not None else "",
            "compression": f"{report.compression:.2f}" if report and report.compression is not None else "",
            "shuffled": score_text(report.shuffled_score) if report else "",
            "gap": score_text(report.gap) if report else "",
        }


def _notes(report: ProbeReport) -> tuple[str, ...]:
    if report.baseline_compression is None:
        return report.notes
    code = f"a compression of {report.baseline_compression:.2f} comes of the labels' frequencies alone"
    return (code, *report.notes)


def _missing(error: ModuleNotFoundError, what: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"{what}() needs {error.name}: pip install 'onnxscope[plot]'", name=error.name)
