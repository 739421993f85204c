"""Readings, while what they read rises through a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from onnxscope_server.domain import Each, Output, Ragged, Reading, Shaped, Taken


def names(reading: Reading) -> Iterator[str]:
    """Yields the names of what a reading reads."""
    match reading:
        case Output(name):
            yield name
        case Each(item):
            yield from names(item)
        case Taken(flag, value, _):
            yield from names(flag)
            yield from names(value)
        case Ragged(values, counts, _):
            yield from names(values)
            yield from names(counts)
        case Shaped(elements, shape, _):
            yield from names(elements)
            yield from names(shape)


def replaced(reading: Reading, by: Callable[[str], Reading], *, iterations: int = 0) -> Reading:
    """Returns a reading with what it reads replaced.

    Args:
        reading: what to change.
        by: the new reading, by the name of what was read.
        iterations: number of iterating bodies that what is read has come out of.
    """
    match reading:
        case Output(name):
            return by(name)
        case Each(item):
            return Each(replaced(item, by, iterations=iterations))
        case Taken(flag, value, outer):
            flag, value = (replaced(one, by, iterations=iterations) for one in (flag, value))
            return Taken(flag, value, outer + iterations)
        case Ragged(values, counts, outer):
            values, counts = (replaced(one, by, iterations=iterations) for one in (values, counts))
            return Ragged(values, counts, outer + iterations)
        case Shaped(elements, shape, outer):
            elements, shape = (replaced(one, by, iterations=iterations) for one in (elements, shape))
            return Shaped(elements, shape, outer + iterations)
