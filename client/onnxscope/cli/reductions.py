"""`--reduce`: `[SELECTOR=]REDUCTION`, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxscope import reduce
from onnxscope.cli.console import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MASKED = ("mean", "max", "first", "last", "positions")
_NUMBERS: dict[str, tuple[Any, int]] = {"topk": (reduce.topk, 1), "index": (reduce.index, 2)}


def parse(texts: Sequence[str]) -> Any:
    """Reads reductions.

    Args:
        texts: each `REDUCTION` or `SELECTOR=REDUCTION`, where REDUCTION is a name, `index:AXIS,I`, `topk:K`, or
            `mean:MASK` with the name of an input (likewise max, first, last, positions).

    Returns:
        What `reduce=` takes; None for no text.

    Raises:
        CommandError: a reduction cannot be read.
        onnxscope.ReductionInvalidError: there is no such reduction.
    """
    if not texts:
        return None
    rules = {}
    for text in texts:
        # the last "=", since a selector may hold one too
        selector, _, name = text.rpartition("=")
        if selector in rules:
            raise CommandError(f"--reduce is given twice for {selector or 'everything'}")
        rules[selector] = _reduction(name)
    if list(rules) == [""]:
        return rules[""]
    everything = {"*": rules.pop("")} if "" in rules else {}
    return everything | rules


def _reduction(text: str) -> reduce.Reduction:
    name, _, detail = text.partition(":")
    if not detail:
        return reduce.of(name)
    if name in _NUMBERS:
        return _numbered(text, name, detail.split(","))
    if name in _MASKED:
        return reduce.Reduction(name, mask=detail)
    raise CommandError(f"--reduce {text}: {name} takes nothing after the colon")


def _numbered(text: str, name: str, details: Sequence[str]) -> reduce.Reduction:
    made, count = _NUMBERS[name]
    try:
        numbers = [int(detail) for detail in details]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise CommandError(f"--reduce {text}: write index:AXIS,I or topk:K with whole numbers")
    reduction: reduce.Reduction = made(*numbers)
    return reduction
