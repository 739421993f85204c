"""Attention: positions of a row look at each other, rows don't."""

from __future__ import annotations

from collections.abc import Mapping

from onnxscope_server.rewrite.rows.facts import Facts
from onnxscope_server.rewrite.rows.node import Node, Placed, Rule, rowed

_ATTENTION_RANK = 4


def _attention(node: Node) -> list[Placed]:
    """Attention-23: queries, keys and values, a mask, past keys and values, lengths."""
    query = node.ranked(0)
    _rows_in_front(node, query, 1, 2)
    _rows_or_none(node, query, 4, 5, 6)
    mask = node.at(3)
    if mask is not None and mask.has_rows:
        if mask.rows != query.rows or mask.rank != _ATTENTION_RANK:
            raise node.mixes("has a mask whose rows lie elsewhere")
    elif node.fixed(3) is not None:
        shape = node.ranked(3).shape or ()
        if len(shape) == _ATTENTION_RANK and shape[0] != 1:
            raise node.mixes("has a mask that may have an entry for each row")
    return [node.on(query)] * len(node.proto.output)


def _rotated(node: Node) -> list[Placed]:
    """RotaryEmbedding: positions [row, position], or angles for each position of each row."""
    x = node.ranked(0)
    positions = node.at(3)
    if positions is not None:
        _rows_in_front(node, x, 3)
        node.fixed(1)
        node.fixed(2)
    else:
        _rows_in_front(node, x, 1, 2)
    if x.axis != 0:
        raise node.mixes("wants the rows along axis 0, and they lie elsewhere")
    return [node.on(x)]


def _heads(node: Node) -> list[Placed]:
    """com.microsoft's MultiHeadAttention with a query, keys and values of one width, and a mask of positions."""
    query = node.ranked(0)
    _rows_in_front(node, query, 1, 2)
    _rows_or_none(node, query, 4)
    node.fixed(3)
    _without(node, 5)
    mask, value = node.at(4), node.ranked(2)
    if mask is not None and mask.rank == 1:
        raise node.mixes("has a mask of lengths, which count through the whole batch")
    if len(node.proto.output) > 1:
        raise node.mixes("tells past keys and values")
    return [
        rowed(query, [*(query.shape or ())[:-1], (value.shape or (None,))[-1] if value.rank == query.rank else None], 0)
    ]


def _weighted(node: Node) -> list[Placed]:
    """com.microsoft's Attention, whose weights make queries, keys and values of one input."""
    x = node.ranked(0)
    _rows_in_front(node, x)
    node.fixed(1)
    node.fixed(2)
    _rows_or_none(node, x, 3)
    _without(node, 4)
    mask = node.at(3)
    if mask is not None and mask.rank == 1:
        raise node.mixes("has a mask of lengths, which count through the whole batch")
    if len(node.proto.output) > 1 or node.attribute("qkv_hidden_sizes"):
        raise node.mixes("tells past keys and values, or has them of several widths")
    return [x]


def _rows_in_front(node: Node, first: Facts, *others: int) -> None:
    if first.axis != 0 or any(node.given(index).rows != first.rows for index in others):
        raise node.mixes("wants the rows of all its inputs along axis 0")


def _rows_or_none(node: Node, first: Facts, *others: int) -> None:
    for index in others:
        given = node.at(index)
        if given is not None and given.rows != first.rows:
            raise node.mixes(f"has an input {index} that is not one for each row")


def _without(node: Node, start: int) -> None:
    if any(item is not None for item in node.inputs[start:]):
        raise node.mixes("has past keys, biases or lengths beside its input")


RULES: Mapping[tuple[str, str], Rule] = {
    ("", "Attention"): _attention,
    ("", "RotaryEmbedding"): _rotated,
    ("com.microsoft", "MultiHeadAttention"): _heads,
    ("com.microsoft", "Attention"): _weighted,
}
