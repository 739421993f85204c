"""Local functions: which of them are called, and how many nodes a model has once they are all put in place."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from onnxscope_server.catalog.runtime import Runtime
from onnxscope_server.catalog.scopes import OWN_DOMAINS, imported
from onnxscope_server.catalog.walk import bodies
from onnxscope_server.errors import ModelInvalidError

# onnxruntime puts functions in place when it loads a model; at a million nodes that takes minutes
MAX_EXPANDED_NODES = 1_000_000
_Key = tuple[str, str, str]


def without_operators(proto: onnx.ModelProto, runtime: Runtime | None) -> bytes | None:
    """Takes those functions away that the runtime has operators for: it runs the operators, and never the functions.

    Args:
        proto: the model; it is changed.
        runtime: what runs it.

    Returns:
        The model without them, serialised; None where there are none.
    """
    if runtime is None or not proto.functions:
        return None
    versions = imported(proto)
    kept = []
    for function in proto.functions:
        domain = "" if function.domain in OWN_DOMAINS else function.domain
        if domain not in versions or not runtime.has_operator(domain, function.name, versions[domain]):
            kept.append(function)
    if len(kept) == len(proto.functions):
        return None
    del proto.functions[:]
    proto.functions.extend(kept)
    return proto.SerializeToString()


def check_expansion(proto: onnx.ModelProto) -> None:
    """Counts the nodes with all functions in place; two kilobytes of nested functions can make billions.

    Raises:
        ModelInvalidError: there are too many, or a function calls itself.
    """
    if not proto.functions:
        return
    bodies = {(item.domain, item.name, item.overload): item for item in proto.functions}
    counts: dict[_Key, int] = {}
    for key in bodies:
        _settle(key, bodies, counts)
    total = _expanded(proto.graph.node, counts)
    if total > MAX_EXPANDED_NODES:
        detail = f"its functions call each other so often that it has {total:,} nodes in all"
        raise ModelInvalidError(f"The model is refused: {detail}, above {MAX_EXPANDED_NODES:,}.", detail=detail)


def _settle(first: _Key, bodies: dict[_Key, onnx.FunctionProto], counts: dict[_Key, int]) -> None:
    """Counts a function's nodes after those of the functions that it calls."""
    path = [first]
    while path:
        key = path[-1]
        calls = _calls(bodies[key].node)
        waiting = [called for called in calls if called in bodies and called not in counts]
        if not waiting:
            counts[key] = _expanded(bodies[key].node, counts)
            path.pop()
        elif waiting[0] in path:
            detail = f"its function {waiting[0][1]!r} calls itself"
            raise ModelInvalidError(f"The model contradicts itself: {detail}.", detail=detail)
        else:
            path.append(waiting[0])


def _calls(nodes: Iterable[onnx.NodeProto]) -> list[_Key]:
    calls = []
    for node in nodes:
        calls.append((node.domain, node.op_type, node.overload))
        for body in bodies([node]):
            calls.extend(_calls(body.node))
    return calls


def _expanded(nodes: Iterable[onnx.NodeProto], counts: dict[_Key, int]) -> int:
    return sum(counts.get(call, 1) for call in _calls(nodes))
