"""onnxruntime's attention operators without a cache: projections, scores, probabilities and what they pick.

query, key, value [row, head, position, unit] -> scores [row, head, position, position]
-> masked_scores -> probabilities -> context [row, head, position, unit]
"""

from __future__ import annotations

from onnxscope_server.catalog.definitions.form import Form
from onnxscope_server.catalog.definitions.writer import Writer
from onnxscope_server.domain import DataType

PACKED_INPUTS = ("input", "weights", "bias", "mask_index", "past", "attention_bias")
INPUTS = ("query", "key", "value", "bias", "key_padding_mask", "attention_bias", "past_key", "past_value")
_MASKED = -10000.0
_ROWS_AND_POSITIONS = 2
_SEPARATE = 3


def packed(writer: Writer, form: Form) -> bool:
    """Writes com.microsoft.Attention, where one matrix makes query, key and value."""
    masked = form.has("mask_index")
    if form.has("past") or form.attributes.get("do_rotary") or form.attributes.get("qkv_hidden_sizes"):
        return False
    if masked and form.rank("mask_index") != _ROWS_AND_POSITIONS:
        return False
    projected = writer.add("MatMul", "input", "weights")
    if form.has("bias"):
        projected = writer.add("Add", projected, "bias")
    heads = int(form.attributes["num_heads"])
    apart = writer.reshape(projected, 0, 0, 3, heads, -1)
    _attend(writer, form, [writer.take(apart, index, 2) for index in range(3)], "mask_index" if masked else "")
    return True


def separate(writer: Writer, form: Form) -> bool:
    """Writes com.microsoft.MultiHeadAttention, where query, key and value come ready."""
    names = ("query", "key", "value")
    masked = form.has("key_padding_mask")
    if form.has("past_key") or any(not form.has(name) or form.rank(name) != _SEPARATE for name in names):
        return False
    if masked and form.rank("key_padding_mask") != _ROWS_AND_POSITIONS:
        return False
    heads = int(form.attributes["num_heads"])
    values = list(names)
    if form.has("bias"):
        # query and key have the same width, value may have another
        width = writer.take(writer.add("Shape", "query"), -1, 0)
        ends = [writer.integers(0), _at(writer, width, 1), _at(writer, width, 2), writer.integers(2**31 - 1)]
        values = [
            writer.add("Add", name, writer.add("Slice", "bias", ends[index], ends[index + 1]))
            for index, name in enumerate(names)
        ]
    apart = [writer.reshape(value, 0, 0, heads, -1) for value in values]
    _attend(writer, form, apart, "key_padding_mask" if masked else "")
    return True


def _at(writer: Writer, width: str, count: int) -> str:
    return writer.reshape(writer.add("Mul", width, writer.index(count)), 1)


def _attend(writer: Writer, form: Form, apart: list[str], mask: str) -> None:
    """Writes attention over [row, position, head, unit] each of query, key and value."""
    query, key, value = (
        writer.part(name, "Transpose", one, perm=[0, 2, 1, 3])
        for name, one in zip(("query", "key", "value"), apart, strict=True)
    )
    product = writer.add("MatMul", query, writer.add("Transpose", key, perm=[0, 1, 3, 2]))
    scores = writer.part("scores", "Mul", product, _scale(writer, form, query))
    unmasked = scores
    low = writer.number(form.number("mask_filter_value", _MASKED))
    if form.has("attention_bias"):
        scores = writer.add("Add", scores, "attention_bias")
    if mask:
        kept = writer.with_axes("Unsqueeze", writer.cast(mask, DataType.BOOL), 1, 2)
        scores = writer.add("Where", kept, scores, low)
    if form.attributes.get("unidirectional"):
        positions, seen = (_positions(writer, value) for value in (query, key))
        later = writer.add("Less", writer.with_axes("Unsqueeze", positions, 1), writer.with_axes("Unsqueeze", seen, 0))
        scores = writer.add("Where", later, low, scores)
    if scores != unmasked:
        scores = writer.part("masked_scores", "Identity", scores)
    probabilities = writer.part("probabilities", "Softmax", scores, axis=-1)
    writer.part("context", "MatMul", probabilities, value)


def _scale(writer: Writer, form: Form, query: str) -> str:
    stated = form.number("scale", 0.0)
    if stated:
        return writer.number(stated)
    width = writer.cast(writer.take(writer.add("Shape", query), 3, 0), DataType.FLOAT32)
    inverse = writer.add("Reciprocal", writer.add("Sqrt", width))
    return writer.cast(inverse, None)


def _positions(writer: Writer, value: str) -> str:
    count = writer.take(writer.add("Shape", value), 2, 0)
    return writer.add("Range", writer.index(0), count, writer.index(1))
