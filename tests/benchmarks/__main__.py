"""Measures what watching costs, as ratios that have targets: `python -m tests.benchmarks --help`."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from tests.benchmarks import curves, pictures, results, table
from tests.benchmarks.figures import Bench, NotMeasured, Outcome
from tests.benchmarks.registry import MEASUREMENTS, measure

_CACHE = Path(__file__).parents[2] / ".cache" / "bench"
_CURVES = "curves"
T = TypeVar("T")
_FIGURES = [figure for measurement in MEASUREMENTS for figure in measurement.figures]


def main() -> int:
    """Measures, prints the table, writes JSON and PNG; returns 1 where something fails."""
    args = _arguments()
    bench = Bench(_CACHE, short=args.short)
    start = time.monotonic()
    outcomes: list[Outcome] = []
    if args.show:
        outcomes = results.read(args.json, _FIGURES)
    else:
        for index in _chosen(args.names):
            outcomes += _outcomes(index, bench)
        results.keep(args.json, outcomes, _FIGURES)
    pictures.draw(results.read(args.json, _FIGURES), args.png)
    print(table.table(outcomes), *table.notes(outcomes), sep="\n")
    print(f"{_machine()}; {time.monotonic() - start:.0f} s; {args.json}, {args.png}", flush=True)
    failures = table.failures(outcomes, check=args.check)
    print(*failures, sep="\n", file=sys.stderr)
    if not args.show and (_CURVES in args.names or not (args.names or args.short)):
        _curves(bench, args.json.with_name("curves.json"), args.png.with_name("curves.png"))
    return 1 if failures else 0


def _curves(bench: Bench, data: Path, picture: Path) -> None:
    """Measures how cost grows, and writes it."""
    panels = []
    for index in range(len(curves.PANELS)):
        start = time.monotonic()
        panels.append(_alone(curves.measure, index, bench))
        print(f"curve over {panels[-1].name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    curves.write(panels, data)
    pictures.draw_curves(panels, picture)
    print(f"{data}, {picture}")


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "grpcio", "numpy"))
    return f"{cores} cores, {platform.system()}, Python {platform.python_version()}, {packages}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    names = [*(figure.name for figure in _FIGURES), _CURVES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all if not given; of {', '.join(names)}")
    parser.add_argument("--short", action="store_true", help="what CI runs: fewer repetitions, nothing that is fetched")
    parser.add_argument("--check", action="store_true", help="fail where a figure is worse than its bound by 30 %%")
    parser.add_argument("--show", action="store_true", help="measure nothing; show what --json has")
    parser.add_argument("--json", type=Path, default=_CACHE / "results.json", help="where the results go")
    parser.add_argument("--png", type=Path, default=_CACHE / "results.png", help="where the picture goes")
    args = parser.parse_args()
    unknown = set(args.names) - set(names)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return args


def _chosen(names: Sequence[str]) -> list[int]:
    wanted = set(names)
    measured = [{figure.name for figure in measurement.figures} for measurement in MEASUREMENTS]
    return [index for index, figures in enumerate(measured) if not wanted or wanted & figures]


def _outcomes(index: int, bench: Bench) -> Sequence[Outcome]:
    """Measures; what goes wrong is an outcome too, and loud."""
    measurement = MEASUREMENTS[index]
    names = ", ".join(figure.name for figure in measurement.figures)
    start = time.monotonic()
    try:
        if bench.short and measurement.needs:
            reason = f"needs {measurement.needs}, which the short form leaves out"
            outcomes: Sequence[Outcome] = [NotMeasured(figure, reason) for figure in measurement.figures]
        else:
            outcomes = _alone(measure, index, bench)
    except Exception as error:  # noqa: BLE001  # one that breaks must not end the others
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        outcomes = [NotMeasured(figure, reason, is_failure=True) for figure in measurement.figures]
    for outcome in outcomes:
        if isinstance(outcome, NotMeasured):
            print(f"NOT MEASURED: {outcome.figure.name}: {outcome.reason}", file=sys.stderr, flush=True)
    print(f"{names}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return outcomes


def _alone(work: Callable[[int, Bench], T], index: int, bench: Bench) -> T:
    """Measures in a process of its own: what others left behind on the heap can double the time of a run."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(work, index, bench).result()


if __name__ == "__main__":
    sys.exit(main())
