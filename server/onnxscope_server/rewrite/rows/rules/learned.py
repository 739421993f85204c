"""ai.onnx.ml: models from scikit-learn and its kin, which take [row, feature]."""

from __future__ import annotations

from collections.abc import Mapping

from onnxscope_server.rewrite.rows.facts import Count, Facts, product
from onnxscope_server.rewrite.rows.node import Node, Placed, Rule, rowed

_MATRIX = 2
_FLOAT32 = 1


def _same_shape(node: Node) -> list[Placed]:
    _check(node)
    return [Facts(_FLOAT32, node.ranked(0).shape, 0)]


def _classified(node: Node) -> list[Placed]:
    """Labels [row] and scores [row, class]."""
    rows = _check(node)
    return [rowed(Facts(None, None), [rows], 0), rowed(Facts(_FLOAT32, None), [rows, None], 0)]


def _regressed(node: Node) -> list[Placed]:
    """[row, target]."""
    return [rowed(Facts(_FLOAT32, None), [_check(node), None], 0)]


def _check(node: Node) -> Count:
    x = node.ranked(0)
    node.all_fixed(1)
    if x.axis != 0 or x.rank != _MATRIX:
        raise node.mixes("wants [row, feature]")
    return Count(node.on(x).per_row)


def _features(node: Node) -> list[Placed]:
    """FeatureVectorizer: columns beside each other."""
    first = node.ranked(0)
    if first.axis != 0 or any(item is None or item.rows != first.rows or item.rank != _MATRIX for item in node.inputs):
        raise node.mixes("wants [row, feature] in all its inputs")
    return [rowed(Facts(first.data_type, None), [Count(node.on(first).per_row), None], 0)]


def _picked(node: Node) -> list[Placed]:
    """ArrayFeatureExtractor: entries of the last axis; classes by their numbers, or columns by theirs."""
    x, places = node.ranked(0), node.ranked(1)
    if places.has_rows:
        node.fixed(0)
        if places.rank != 1 or product((x.shape or ())[:-1]) != 1:
            raise node.mixes("picks from several lists for all rows")
        return [rowed(Facts(x.data_type, None), [1, Count(node.on(places).per_row)], 1)]
    node.fixed(1)
    if node.on(x).axis == (x.rank or 1) - 1:
        raise node.mixes("picks some of the rows")
    return [rowed(x, [*(x.shape or ())[:-1], None], node.on(x).axis)]


def _listed(node: Node) -> list[Placed]:
    """ZipMap: a list with one map for each row."""
    x = node.ranked(0)
    if x.axis != 0 or x.rank != _MATRIX:
        raise node.mixes("wants [row, class]")
    return [rowed(Facts(None, None), [Count(node.on(x).per_row)], 0)]


RULES: Mapping[tuple[str, str], Rule] = {
    **{("ai.onnx.ml", name): _same_shape for name in ("Imputer", "Normalizer", "Scaler")},
    **{("ai.onnx.ml", f"{name}Classifier"): _classified for name in ("Linear", "SVM", "TreeEnsemble")},
    **{("ai.onnx.ml", f"{name}Regressor"): _regressed for name in ("Linear", "SVM", "TreeEnsemble")},
    ("ai.onnx.ml", "TreeEnsemble"): _regressed,
    ("ai.onnx.ml", "FeatureVectorizer"): _features,
    ("ai.onnx.ml", "ArrayFeatureExtractor"): _picked,
    ("ai.onnx.ml", "ZipMap"): _listed,
}
