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

from tests.conformance import exceptions, fetch, sources, tables
from tests.conformance.measure import Case, Row
from tests.conformance.worker import Worker

_CACHE = Path(__file__).parents[2] / ".cache" / "conformance"


def main() -> int:
    """Measures, prints a table and the totals, and writes JSON; returns 1 where a target is missed."""
    args = _arguments()
    rows: list[Row] = []
    start = time.monotonic()
    for row in _measured(_cases(args), args.workers):
        rows.append(row)
        for problem in row.problems:
            known = exceptions.reason(row, problem)
            print(f"{row.group}: {row.name}: {problem[:400]}" + (f" (known: {known})" if known else ""), flush=True)
        if args.verbose:
            print(f"{row.group}: {row.name}: {row.state} in {row.seconds} s", flush=True)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print(tables.table(rows), tables.totals(rows), f"{time.monotonic() - start:.0f} s; {args.json}", sep="\n")
    failures = tables.failures(rows)
    print(*failures, sep="\n")
    return 1 if failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--json", type=Path, default=_CACHE / "result.json", help="where each model's row goes")
    parser.add_argument("--every", type=int, default=1, help="of ONNX's node tests, measure every n-th")
    parser.add_argument("--only", default="", help="only models whose group and name contain this")
    parser.add_argument("--names", type=Path, help="only models that this file names")
    parser.add_argument("--folder", type=Path, action="append", default=[], help="measure its models, and no others")
    parser.add_argument("--offline", action="store_true", help="fetch nothing; measure what is there")
    parser.add_argument("--shipped", action="store_true", help="only what the installed packages bring")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that measure side by side")
    parser.add_argument("--verbose", action="store_true", help="print a line for each model")
    return parser.parse_args()


def _cases(args: argparse.Namespace) -> Iterator[Case]:
    wanted = set(args.names.read_text().split()) if args.names else None
    for case in _folders(args.folder) if args.folder else _everything(args):
        if (wanted is None or case.name in wanted) and args.only in f"{case.group} {case.name}":
            yield case


def _folders(folders: Iterable[Path]) -> Iterator[Case]:
    for folder in folders:
        yield from sources.files(folder.name, folder)


def _everything(args: argparse.Namespace) -> Iterator[Case]:
    """Yields the slow ones first: the last to end should not be one that keeps a single core busy."""
    if not args.shipped:
        if not args.offline:
            fetch.corpus(_CACHE)
            fetch.jax_examples(_CACHE)
        yield from sources.files("packages", _CACHE / "corpus")
        yield from sources.files("jax2onnx", _CACHE / "jax2onnx")
    yield from sources.onnxruntimes_own()
    yield from sources.backend_data()
    yield from itertools.islice(sources.backend_nodes(), 0, None, args.every)


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


if __name__ == "__main__":
    sys.exit(main())
