"""Selectors: which hook points a pattern names.

    relu_1               an exact address; it wins over every other reading, whatever characters are in it
    block*/Conv_?        a glob: `*` is any text, `?` one character, both cross `/` and `::`; nothing else is special
    re:block[12]/.*      a regular expression (as in the module `regex`) that the whole address matches
    op:Relu              outputs of nodes of a type; `op:com.microsoft:Gelu` outside of ONNX's own domain
    depth:0.2..0.5       share of the longest path from an input, both ends included; one of them may be left out
    type:float32         values of such elements
    kind:constant        input, activation, output, constant, weight, unused
    !relu_1              takes away from what stands so far; a list that begins with it begins from `*`

Patterns name what a node computes from an input; constants, weights, inputs and unused output slots need `kind:` or an
exact address.
"""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import regex

from onnxscope_server.catalog.description import HookPoint, Kind
from onnxscope_server.domain import TensorType
from onnxscope_server.errors import HookPointNotFoundError, SelectorInvalidError
from onnxscope_server.plan.element_types import BY_NAME

_MAX_LENGTH = 2000
_EXPRESSION_SECONDS = 2.0
_PROPERTIES = ("depth:", "kind:", "type:")
_CLOSEST = 3
_PART = "::expand::"
_COMPUTED = (Kind.ACTIVATION, Kind.OUTPUT)
_DEPTH = re.compile(r"(?P<low>[0-9]*\.?[0-9]*)\.\.(?P<high>[0-9]*\.?[0-9]*)")

Test: TypeAlias = Callable[[HookPoint], bool]


def select(hook_points: Sequence[HookPoint], selectors: Sequence[str]) -> tuple[HookPoint, ...]:
    """Chooses hook points.

    Args:
        hook_points: of a model, in its order.
        selectors: what to choose, one after the other; a hook point is chosen once.

    Returns:
        By selector, and in the model's order for each.

    Raises:
        HookPointNotFoundError: a selector matches nothing; the text names the closest addresses.
        SelectorInvalidError: a selector cannot be read.
    """
    chosen: dict[str, HookPoint] = {}
    by_address = {point.address: point for point in hook_points}
    for index, selector in enumerate(selectors):
        away = selector.startswith("!") and selector not in by_address
        positive = selector[1:] if away else selector
        if away and index == 0:
            chosen = {point.address: point for point in hook_points if _computed(point)}
        found = matching(hook_points, positive, every_kind=away)
        if not found:
            raise _nothing(hook_points, positive)
        for point in found:
            if away:
                chosen.pop(point.address, None)
            else:
                chosen.setdefault(point.address, point)
    return tuple(chosen.values())


def matching(hook_points: Sequence[HookPoint], selector: str, *, every_kind: bool = False) -> list[HookPoint]:
    """Returns the hook points that one selector, without a leading `!`, names.

    Args:
        hook_points: to choose from.
        selector: an exact address or a pattern.
        every_kind: let patterns match inputs, constants, weights and unused slots too.

    Raises:
        SelectorInvalidError: it cannot be read.
    """
    exact = [point for point in hook_points if point.address == selector]
    if exact:
        return exact
    if not selector or len(selector) > _MAX_LENGTH:
        shown = selector[:50]
        raise SelectorInvalidError(f"A selector must have 1 to {_MAX_LENGTH} characters: {shown!r}.", selector=shown)
    test = _test(selector)
    whole = every_kind or selector.startswith("kind:")
    return [point for point in hook_points if (whole or _computed(point)) and test(point)]


def _computed(point: HookPoint) -> bool:
    return point.kind in _COMPUTED and bool(point.op_type)


def _test(selector: str) -> Test:
    head, colon, rest = selector.partition(":")
    reader = _READERS.get(head) if colon else None
    if reader is not None:
        return reader(selector, rest)
    pattern = _glob(selector)
    return lambda point: pattern.fullmatch(point.address) is not None


def _glob(selector: str) -> re.Pattern[str]:
    """Compiles a glob; each part is found at its first place, and never looked for again."""
    first, *parts = [re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", selector)]
    if not parts:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>.*?{part})" for part in parts[:-1])
    return re.compile(f"{first}{middle}.*{parts[-1]}", re.DOTALL)


def _expression(selector: str, rest: str) -> Test:
    try:
        pattern = regex.compile(rest)
    except (regex.error, OverflowError, RecursionError) as error:
        raise _invalid(selector, f"the regular expression cannot be read: {error}") from error
    end = time.monotonic() + _EXPRESSION_SECONDS

    def test(point: HookPoint) -> bool:
        left = max(_EXPRESSION_SECONDS / 1000, end - time.monotonic())
        try:
            # concurrent gives up the interpreter's lock: other callers go on
            return pattern.fullmatch(point.address, timeout=left, concurrent=True) is not None
        except TimeoutError as error:
            why = f"the regular expression takes more than {_EXPRESSION_SECONDS} s: nest no repetitions"
            raise _invalid(selector, why) from error

    return test


def _op(_selector: str, rest: str) -> Test:
    wanted = rest.removeprefix("ai.onnx:")
    return lambda point: bool(wanted) and point.op_type == wanted


def _depth(selector: str, rest: str) -> Test:
    match = _DEPTH.fullmatch(rest)
    try:
        low, high = (float(match[end] or default) for end, default in (("low", 0), ("high", 1))) if match else (1, 0)
    except ValueError:
        low, high = 1, 0
    if low > high:
        raise _invalid(selector, "write it like depth:0.2..0.5, the smaller number first")
    return lambda point: low <= point.depth <= high


def _type(selector: str, rest: str) -> Test:
    wanted = BY_NAME.get(rest)
    if wanted is None:
        raise _invalid(selector, f"there is no type {rest!r}; the types are {', '.join(sorted(BY_NAME))}")
    return lambda point: isinstance(point.type, TensorType) and point.type.data_type is wanted


def _kind(selector: str, rest: str) -> Test:
    if rest not in set(Kind):
        raise _invalid(selector, f"there is no kind {rest!r}; the kinds are {', '.join(Kind)}")
    wanted = Kind(rest)
    return lambda point: point.kind is wanted


_READERS: dict[str, Callable[[str, str], Test]] = {
    "re": _expression,
    "op": _op,
    "depth": _depth,
    "type": _type,
    "kind": _kind,
}


def _invalid(selector: str, why: str) -> SelectorInvalidError:
    return SelectorInvalidError(f"The selector {selector!r} cannot be read: {why}.", selector=selector)


def _nothing(hook_points: Sequence[HookPoint], selector: str) -> HookPointNotFoundError:
    if _PART in selector and not any(_PART in point.address for point in hook_points):
        text = "The parts of operators are hook points with expand=True, of operators that are made of others."
        return HookPointNotFoundError(f"{selector!r} matches no hook point. {text}", selector=selector, closest="")
    if selector.startswith("op:"):
        known = sorted({f"op:{point.op_type}" for point in hook_points if point.op_type})
    else:
        known = [point.address for point in hook_points]
    closest = []
    if not selector.startswith(_PROPERTIES):
        lowered = {item.lower(): item for item in known}
        similar = difflib.get_close_matches(selector.lower(), lowered, n=_CLOSEST, cutoff=0.0)
        closest = [lowered[item] for item in similar]
    text = f"Closest: {', '.join(closest)}." if closest else "model.hook_points() lists what there is."
    return HookPointNotFoundError(
        f"{selector!r} matches no hook point. {text}", selector=selector, closest=", ".join(closest)
    )
