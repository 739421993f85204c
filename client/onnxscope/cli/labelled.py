"""Rows with their labels, as files: `--input`, `--labels` and what else belongs to rows."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscope.cli import archives, images, inputs
from onnxscope.cli.console import CommandError
from onnxscope.v1 import codec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from onnxscope.results import TensorSpec
    from onnxscope.v1.codec import Array

_TABLES = (".npz", ".safetensors", ".csv")
_NO_PICTURES = images.Preparation(None, None, None, None, None, None)
_DTYPES = {codec.dtype_name(number): dtype for number, dtype in codec.DTYPES.items()}


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRows:
    """A data set.

    Attributes:
        values: inputs of the model by name.
        beside: what belongs to the rows, by the option that named it; None for an option that was not given.
    """

    values: Mapping[str, Any]
    beside: Mapping[str, Any]


def read(
    given: Sequence[str], specs: Sequence[TensorSpec], beside: Mapping[str, str | None], *, cast: bool = False
) -> LabelledRows:
    """Reads a data set.

    Args:
        given: as of `inputs.read`, and tables: .csv files with a header, archives with arrays that are no inputs.
        specs: of the model's inputs, the optional ones too.
        beside: for each option a file, `FILE:NAME` for an array or column in it, or the name of an array or a column of
            what `given` names; None where it was not given.
        cast: converts arrays to the dtype that the model declares; what a .csv file holds always is.

    Raises:
        CommandError: something cannot be read, or it is not clear what it is meant for.
    """
    pool: dict[str, Any] = {}
    values: dict[str, Any] = {}
    tables: set[Path] = set()
    has_text = False
    for item in given:
        path = Path(item)
        if path.suffix.lower() in _TABLES and path.is_file():
            tables.add(path.resolve())
            pool |= _table(path)
            has_text |= path.suffix.lower() == ".csv"
        else:
            values |= inputs.read([item], specs, _NO_PICTURES, cast=cast)
    named = {option: text and _in_pool(text, pool, tables) for option, text in beside.items()}
    found = {option: None if text is None else _beside(option, text, pool) for option, text in named.items()}
    for text in named.values():
        pool.pop(text or "", None)
    if pool:
        values |= _inputs(pool, [spec for spec in specs if spec.name not in values], is_csv=has_text, cast=cast)
    if not values:
        inputs.read([], specs, _NO_PICTURES)
    return LabelledRows(values, found)


def _table(path: Path) -> dict[str, Any]:
    if path.suffix.lower() != ".csv":
        return archives.load(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise CommandError(f"{path} cannot be read as .csv: {error}") from error
    if len(rows) < 2:  # noqa: PLR2004  # a header and a row
        raise CommandError(f"{path} needs a line with the names of the columns, and rows below it")
    names, *cells = rows
    for number, row in enumerate(cells, 2):
        if len(row) != len(names):
            raise CommandError(f"{path}: row {number} has {len(row)} cells, and the header {len(names)}")
    return {name.strip(): _column([row[at] for row in cells]) for at, name in enumerate(names)}


def _column(cells: Sequence[str]) -> Array:
    """Returns whole numbers, else floats, else text."""
    for dtype in (np.int64, np.float64):
        try:
            return np.array([dtype(cell) for cell in cells])
        except ValueError:
            continue
    return np.array(cells, object)


def _in_pool(text: str, pool: Mapping[str, Any], tables: Collection[Path]) -> str:
    """Returns the name alone where `FILE:NAME` is of a file that `--input` names too."""
    head, _, name = text.rpartition(":")
    return name if text not in pool and name in pool and Path(head).resolve() in tables else text


def _beside(option: str, text: str, pool: Mapping[str, Any]) -> Any:
    if text in pool:
        return pool[text]
    path, name = Path(text), ""
    if not path.is_file() and ":" in text:
        head, _, name = text.rpartition(":")
        path = Path(head)
    if not path.is_file():
        listed = f"; --input has {', '.join(map(repr, pool))}" if pool else ""
        raise CommandError(f"--{option} {text}: there is no such file, nor an array or a column of that name{listed}")
    arrays = _table(path) if path.suffix.lower() in _TABLES else archives.load(path)
    if name in arrays:
        return arrays[name]
    if len(arrays) == 1 and not name:
        return next(iter(arrays.values()))
    raise CommandError(f"--{option} {text}: say which of {', '.join(map(repr, arrays))}, as {path}:NAME")


def _inputs(pool: Mapping[str, Any], specs: Sequence[TensorSpec], *, is_csv: bool, cast: bool) -> dict[str, Any]:
    known = {spec.name: spec for spec in specs}
    strange = [name for name in pool if name not in known]
    if not strange:
        return {name: _shaped(value, known[name], is_csv=is_csv, cast=cast) for name, value in pool.items()}
    is_named = any(name in pool for name in known) and not is_csv
    if len(known) != 1 or is_named:
        listed = "; ".join(map(str, specs))
        raise CommandError(
            f"--input has {strange[0]!r}, which is no input of the model ({listed}); if it is what to learn, say "
            f"--labels {strange[0]}"
        )
    (spec,) = known.values()
    if is_csv:
        text = [name for name, column in pool.items() if column.dtype == object]
        if text:
            raise CommandError(f"the column {text[0]!r} is text, and the model takes {spec}: leave it out of the file")
        matrix = np.stack([np.asarray(column, np.float64) for column in pool.values()], axis=1)
        return {spec.name: _shaped(matrix, spec, is_csv=True, cast=True)}
    if len(pool) != 1:
        raise CommandError(
            f"--input has {', '.join(map(repr, pool))}, and the model takes {spec}: call that array {spec.name!r}, and "
            "say which are the labels with --labels NAME"
        )
    (value,) = pool.values()
    return {spec.name: _shaped(value, spec, is_csv=False, cast=cast)}


def _shaped(value: Any, spec: TensorSpec, *, is_csv: bool, cast: bool) -> Any:
    """Returns an array in the declared dtype, and numbers of a .csv file in the declared shape, where it is known."""
    array = np.asarray(value)
    dtype = _DTYPES.get(spec.dtype)
    if (cast or is_csv) and dtype is not None and array.dtype != object:
        array = array.astype(dtype)
    behind = (spec.shape or ())[1:]
    sizes = [size for size in behind if isinstance(size, int)]
    if is_csv and sizes and len(sizes) == len(behind) and array.size == len(array) * int(np.prod(sizes)):
        array = array.reshape(len(array), *sizes)
    return array
