"""Operators that compute over some axes and leave the others alone: reductions, normalisations, resizing."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from onnxscope_server.rewrite.rows.facts import Count, Size
from onnxscope_server.rewrite.rows.node import Node, Placed, Rule
from onnxscope_server.rewrite.rows.rules.elementwise import stays_beside

_SOFTMAX_OVER_ONE_AXIS = 13
_TRAINING_IS_AN_ATTRIBUTE = 14
_TESTING_WAS_AN_ATTRIBUTE = 7


def _reduced(node: Node) -> list[Placed]:
    x = node.ranked(0)
    axes = node.whole_numbers(1, "axes")
    if not axes:
        if node.attribute("noop_with_empty_axes", 0):
            return [node.on(x)]
        raise node.mixes("reduces over all axes, the rows' too")
    return [_without(node, {axis % (x.rank or 1) for axis in axes}, keeps=bool(node.attribute("keepdims", 1)))]


def _found(node: Node) -> list[Placed]:
    """ArgMax and ArgMin."""
    x = node.ranked(0)
    gone = {node.attribute("axis", 0) % (x.rank or 1)}
    return [_without(node, gone, keeps=bool(node.attribute("keepdims", 1)))]


def _without(node: Node, gone: Collection[int], *, keeps: bool) -> Placed:
    x = node.ranked(0)
    place = node.on(x)
    if place.axis in gone:
        raise node.mixes("reduces over the rows")
    return node.on(x, place.axis - (0 if keeps else sum(axis < place.axis for axis in gone)))


def _softmax(node: Node) -> list[Placed]:
    x = node.ranked(0)
    rank = x.rank or 1
    if node.version >= _SOFTMAX_OVER_ONE_AXIS:
        over: Collection[int] = {node.attribute("axis", -1) % rank}
    else:
        over = range(node.attribute("axis", 1) % rank, rank)
    if x.axis in over:
        raise node.mixes("normalises over the rows")
    return [node.on(x)]


def _over_axis(default: int) -> Rule:
    """Makes the rule of an operator that computes along one axis, its attribute."""

    def rule(node: Node) -> list[Placed]:
        x = node.ranked(0)
        node.all_fixed(1)
        if node.attribute("axis", default) % (x.rank or 1) == x.axis:
            raise node.mixes("computes along the rows")
        return [node.on(x)]

    return rule


def _summed_up(node: Node) -> list[Placed]:
    """CumSum: the axis is an input."""
    x = node.ranked(0)
    if x.axis in [axis % (x.rank or 1) for axis in node.whole_numbers(1) or []]:
        raise node.mixes("adds up along the rows")
    return [node.on(x)]


def _over_the_last(node: Node) -> list[Placed]:
    """LayerNormalization and its kin: over the axes from one on, then a scale and a bias beside them."""
    x = node.ranked(0)
    place = node.on(x)
    rank = x.rank or 1
    if place.axis >= node.attribute("axis", -1) % rank:
        raise node.mixes("normalises over the rows")
    for index in (1, 2):
        beside = node.fixed(index)
        if beside is not None and not stays_beside(beside, place.axis - rank):
            raise node.mixes("has a scale for each row")
    return [place] * len(node.proto.output)


def _batch_normalization(node: Node) -> list[Placed]:
    x = node.ranked(0)
    node.all_fixed(1)
    trains = (
        node.attribute("training_mode", 0)
        if node.version >= _TRAINING_IS_AN_ATTRIBUTE
        else any(node.proto.output[1:])
        or (node.version < _TESTING_WAS_AN_ATTRIBUTE and not node.attribute("is_test", 0))
    )
    if trains:
        raise node.mixes("normalises by the statistics of the whole batch: it is in training mode")
    if x.axis == 1 or not node.attribute("spatial", 1):
        raise node.mixes("has a scale for each row")
    return [node.on(x)]


def _mean_variance(node: Node) -> list[Placed]:
    x = node.ranked(0)
    if x.axis in [axis % (x.rank or 1) for axis in node.attribute("axes", [0, 2, 3])]:
        raise node.mixes("normalises over the rows")
    return [node.on(x)]


def _resized(node: Node) -> list[Placed]:
    """Resize and Upsample: along the rows nothing may change."""
    x = node.ranked(0)
    place, rank = node.on(x), x.rank or 0
    axes = [axis % rank for axis in node.attribute("axes") or range(rank)]
    if node.attribute("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise node.mixes("cuts out a region of the whole batch")
    if place.axis not in axes:
        return [place]
    at = axes.index(place.axis)
    scales = _bounds(node, 1 if node.version < 11 else 2, "scales")  # noqa: PLR2004  # the opset that put a region first
    sizes = _bounds(node, 3, "")
    row_size: Size = Count(place.per_row)
    if (scales and scales[at] == 1) or (sizes and sizes[at] == row_size and not scales):
        return [place]
    raise node.mixes("resizes along the rows")


def _bounds(node: Node, index: int, attribute: str) -> list[Size]:
    given = node.at(index)
    return [] if given is not None and given.shape == (0,) else node.numbers(index, attribute) or []


def _fourier(node: Node) -> list[Placed]:
    x = node.ranked(0)
    node.all_fixed(1)
    last = (x.rank or 1) - 1
    axis = node.attribute("axis", 1) if node.version < 20 else (node.whole_numbers(2) or [-2])[0]  # noqa: PLR2004
    if x.axis in (last, axis % (x.rank or 1)):
        raise node.mixes("transforms along the rows")
    return [node.on(x)]


_REDUCTIONS = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()  # noqa: SIM905  # easier to read

RULES: Mapping[tuple[str, str], Rule] = {
    **{("", f"Reduce{name}"): _reduced for name in _REDUCTIONS},
    ("", "ArgMax"): _found,
    ("", "ArgMin"): _found,
    **{("", name): _softmax for name in ("Softmax", "LogSoftmax", "Hardmax")},
    ("", "LpNormalization"): _over_axis(-1),
    ("", "CumSum"): _summed_up,
    ("", "CumProd"): _summed_up,
    **{
        ("", name): _over_the_last
        for name in ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
    },
    ("", "BatchNormalization"): _batch_normalization,
    ("", "MeanVarianceNormalization"): _mean_variance,
    ("", "Resize"): _resized,
    ("", "Upsample"): _resized,
    ("", "DFT"): _fourier,
}
