"""What a capture brought, on its way to a file, a table or JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from onnxscope.cli import archives, summary
from onnxscope.cli.console import CommandError, note, results, table, write_json
from onnxscope.show.tables import byte_text, shape_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from onnxscope.v1.codec import Array, Value

OUTPUTS = "outputs/"
_HEADERS = ("value", "role", "dtype", "shape", "size", "min", "mean", "max")
_NUMBERS = ("size", "min", "mean", "max")


@dataclass(frozen=True, slots=True, eq=False)
class Captured:
    """Activations and outputs of one call.

    Attributes:
        activations: by address.
        outputs: by name.
        timings: seconds by stage.
        fidelity: of each run.
    """

    activations: Mapping[str, Value]
    outputs: Mapping[str, Value]
    timings: Mapping[str, float] = field(default_factory=dict)
    fidelity: Sequence[Any] = ()

    def arrays(self) -> dict[str, Array]:
        """Returns all arrays by the name that a file gives them; outputs have `outputs/` before theirs.

        Raises:
            CommandError: two of them would have the same name.
        """
        named: dict[str, Array] = {}
        for _, name, key, value in self._values():
            for part, array in archives.named_arrays(key, value):
                if part in named:
                    raise CommandError(f"two values would be called {part!r} in the file; leave {name!r} out")
                named[part] = array
        return named

    def summaries(self) -> list[summary.Summary]:
        """Returns a summary of every array, and of every value that is absent."""
        rows = []
        for role, name, _, value in self._values():
            parts = list(archives.named_arrays(name, value))
            rows += [summary.of(part, role, array) for part, array in parts]
            if not parts:
                rows.append(summary.absent(name, role))
        return rows

    def _values(self) -> Iterator[tuple[str, str, str, Value]]:
        for name, value in self.activations.items():
            yield "activation", name, name, value
        for name, value in self.outputs.items():
            yield "output", name, f"{OUTPUTS}{name}", value


def deliver(captured: Captured, *, out: Path | None, digest: str, as_json: bool) -> None:
    """Writes the file, then says what is in it.

    Args:
        captured: what came.
        out: the file; None for none.
        digest: of the model.
        as_json: whether stdout gets JSON instead of a table.

    Raises:
        CommandError: the file's format cannot hold what came.
    """
    if out is not None:
        archives.save(out, captured.arrays())
    if as_json:
        write_json(_document(captured, out, digest))
    else:
        _print(captured, out)


def _document(captured: Captured, out: Path | None, digest: str) -> dict[str, Any]:
    return {
        "digest": digest,
        "values": [row.document() for row in captured.summaries()],
        "timings": dict(captured.timings),
        "fidelity": _fidelity(captured),
        "out": None if out is None else str(out.resolve()),
    }


def _fidelity(captured: Captured) -> dict[str, Any]:
    differences = [one.max_output_difference for one in captured.fidelity if one.max_output_difference is not None]
    return {
        "fusion_blocked": any(one.fusion_blocked for one in captured.fidelity),
        "changed_operators": sorted({op for one in captured.fidelity for op in one.changed_operators}),
        "max_output_difference": max(differences, default=None),
    }


def _print(captured: Captured, out: Path | None) -> None:
    rows = captured.summaries()
    headers = [*_HEADERS]
    cells = [
        [
            row.name,
            row.role,
            row.dtype,
            "" if row.shape is None else shape_text(row.shape),
            byte_text(row.byte_count),
            _number(row.minimum),
            _number(row.mean),
            _number(row.maximum),
        ]
        for row in rows
    ]
    if any(row.non_finite for row in rows):
        headers.append("NaN or inf")
        for line, row in zip(cells, rows, strict=True):
            line.append(str(row.non_finite) if row.non_finite else "")
    console = results()
    console.print(table(headers, cells, numbers=(*_NUMBERS, "NaN or inf")))
    stages = ", ".join(f"{stage} {seconds * 1000:.1f} ms" for stage, seconds in captured.timings.items())
    total = byte_text(sum(row.byte_count for row in rows))
    console.print(f"\n{len(rows)} value{'s' * (len(rows) != 1)}, {total}" + (f"; {stages}" if stages else ""))
    fidelity = _fidelity(captured)
    if fidelity["fusion_blocked"]:
        changed = ", ".join(fidelity["changed_operators"]) or "some operators"
        note(f"watching blocked a fusion ({changed}): the unmodified model ran beside and gave the outputs")
    if out is not None:
        console.print(f"Written: {out.resolve()}", soft_wrap=True)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
