"""Measures many models, each in a process that may die: `python -m tests.conformance --help`."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from queue import Empty, Queue

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from tests.conformance import sources
from tests.conformance.measure import Case, Row
from tests.conformance.worker import Worker

_ROOT = Path(__file__).parents[2]


def main() -> int:
    """Measures, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--json", type=Path, default=_ROOT / ".cache" / "conformance.json")
    parser.add_argument("--every", type=int, default=1, help="measure only every n-th of the small models")
    parser.add_argument("--only", default="", help="only models whose group and name contain this")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, action="append", default=[], help="measure the models in it too")
    parser.add_argument("--names", type=Path, help="measure only the models that this file names")
    parser.add_argument("--verbose", action="store_true", help="print a line for each model")
    parser.add_argument("--no-backend", action="store_true", help="leave out what comes with onnx and onnxruntime")
    args = parser.parse_args()
    cases = _cases(args)
    rows: list[Row] = []
    start = time.monotonic()
    for row in _measured(cases, args.workers):
        rows.append(row)
        if row.problems or args.verbose:
            print(f"{row.group} {row.name}: {row.state} {row.seconds} s {'; '.join(row.problems)[:400]}", flush=True)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print(table(rows))
    print(f"{time.monotonic() - start:.0f} s; {args.json}")
    return 0


def _cases(args: argparse.Namespace) -> Iterator[Case]:
    backend = [] if args.no_backend else [sources.onnxruntimes_own(), sources.backend_data(), sources.backend_nodes()]
    found: Iterable[Case] = itertools.chain(*(sources.files(folder.name, folder) for folder in args.folder), *backend)
    wanted = set(args.names.read_text().split()) if args.names else None
    for index, case in enumerate(found):
        if wanted is not None and case.name not in wanted:
            continue
        if args.only in f"{case.group} {case.name}" and (index % args.every == 0 or args.only):
            yield case


def _measured(cases: Iterator[Case], workers: int) -> Iterator[Row]:
    """Yields rows as they come."""
    done: Queue[Row | None] = Queue()
    lock = threading.Lock()

    def take() -> Case | None:
        with lock:
            return next(cases, None)

    def work() -> None:
        worker = Worker()
        try:
            while (case := take()) is not None:
                done.put(worker.measure(case))
        finally:
            worker.stop()
            done.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    ended = 0
    while ended < workers:
        try:
            row = done.get(timeout=1)
        except Empty:
            continue
        if row is None:
            ended += 1
        else:
            yield row


def table(rows: list[Row]) -> str:
    """Returns a line for each group, and one of totals."""
    head = ("models", "measured", "values", "listed", "points", "captured", "checked", "right", "outputs equal")
    lines = [f"{'':24}" + "".join(f"{name:>15}" for name in head)]
    groups = dict.fromkeys(row.group for row in rows)
    for group in (*groups, ""):
        chosen = [row for row in rows if not group or row.group == group]
        run = [row for row in chosen if row.state != "not run by onnxruntime"]
        exact = [row for row in run if row.state != "random"]
        sums = [sum(getattr(row, name) for row in run) for name in head[2:-1]]
        equal = f"{sum(bool(row.outputs_equal) for row in exact)}/{len(exact)}"
        cells = [len(chosen), len(run), *sums, equal]
        lines.append(f"{group[:24] or 'total':24}" + "".join(f"{cell:>15}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
