"""Reductions: each against numpy, in every spelling that opsets have for it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxscope_server.domain import DataType, OutputMode, Reduction, ReductionKind
from onnxscope_server.errors import ReductionInvalidError
from onnxscope_server.rewrite.build import build

OPSETS = (8, 11, 13, 18, 21, 23)
DTYPES = (np.float32, np.float64, np.float16, np.int64)
SHAPES = ((3, 4), (3, 4, 5), (3, 4, 2, 3), (2, 3, 2, 1, 2))
MASKED = ("mean", "max", "first", "last", "positions")


def watched(model_of, dtype, rank, opset, declared=True):
    """A model whose hook point `h` is its input `x`; `m` is an int64 mask."""
    number = int(DataType[str(np.dtype(dtype).name).upper()]) if dtype is not object else TensorProto.STRING
    axes = [f"axis_{index}" for index in range(rank)] if declared else None
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["h"]), helper.make_node("Identity", ["m"], ["n"])],
        "g",
        [
            helper.make_tensor_value_info("x", number, axes),
            helper.make_tensor_value_info("m", TensorProto.INT64, ["axis_0", "p"]),
        ],
        [onnx.ValueInfoProto(name="h"), onnx.ValueInfoProto(name="n")],
    )
    imports = [helper.make_opsetid("", opset)]
    return model_of(helper.make_model(graph, opset_imports=imports, ir_version=8))


def in_front(array):
    """[row, position, feature], as ReductionKind says where positions are."""
    if array.ndim < 4:
        return array
    flat = array.reshape(*array.shape[:2], int(np.prod(array.shape[2:])))
    return np.moveaxis(flat, 2, 1)


def wide(array):
    """The type in which numpy is right enough."""
    return array.astype(np.float64)


def reference(kind, array):
    """What a reduction without parameters means, in numpy."""
    front = in_front(array)
    norm_axis = 1 if array.ndim >= 4 else -1
    return {
        "mean": lambda: wide(front).mean(1),
        "max": lambda: front.max(1),
        "first": lambda: front[:, 0],
        "last": lambda: front[:, -1],
        "flatten": lambda: array.reshape(len(array), int(np.prod(array.shape[1:]))),
        "positions": lambda: front.reshape(-1, front.shape[-1]),
        "spatial_mean": lambda: wide(array).mean(tuple(range(2, array.ndim))),
        "norm": lambda: np.sqrt((wide(array) ** 2).sum(norm_axis)),
    }[kind]()


def masked_reference(kind, array, mask):
    """What a masked reduction means, row by row."""
    front = in_front(array)
    if kind == "positions":
        return front[mask]
    rows = []
    for row, keeps in zip(front, mask, strict=True):
        kept = row[keeps]
        if len(kept) == 0:
            is_float = kind == "mean" or array.dtype.kind == "f"
            rows.append(np.full(row.shape[1:], np.nan) if is_float else row[0] * (kind != "max"))
            continue
        rows.append({"mean": wide(kept).mean(0), "max": kept.max(0), "first": kept[0], "last": kept[-1]}[kind])
    return np.stack(rows)


def close(got, expected, dtype, kind):
    """Compares values, and the type that a reduction gives."""
    averaged = kind in ("mean", "spatial_mean", "norm")
    assert got.dtype == (np.float32 if averaged and np.dtype(dtype).kind in "iu" else dtype)
    tolerance = {2: 2e-3, 4: 2e-6, 8: 1e-12}[got.dtype.itemsize] if averaged else 0
    np.testing.assert_allclose(wide(got), wide(expected), rtol=tolerance, atol=tolerance)


def reduced(model, plan_of, run, reduction, feeds):
    """The reduced value."""
    segment = build(model, plan_of(("h", reduction)))
    return run(segment, feeds)[segment.captures["h"]]


@pytest.mark.parametrize("kind", ["mean", "max", "first", "last", "flatten", "positions", "spatial_mean", "norm"])
@pytest.mark.parametrize("opset", OPSETS)
def test_reductions_match_numpy(model_of, plan_of, run, rng, kind, opset):
    """Every rank that has what the reduction asks for, every kind of element."""
    for dtype in DTYPES:
        for shape in SHAPES if dtype is np.float32 else SHAPES[1:3]:
            if len(shape) < 3 and kind not in ("flatten", "norm"):
                continue
            x = (rng.standard_normal(shape) * 8).astype(dtype)
            model = watched(model_of, dtype, len(shape), opset)
            got = reduced(model, plan_of, run, Reduction(ReductionKind(kind)), {"x": x})
            close(got, reference(kind, x), dtype, kind)


@pytest.mark.parametrize("kind", MASKED)
@pytest.mark.parametrize("opset", [9, 13, 21])
def test_masked_reductions_match_numpy(model_of, plan_of, run, rng, kind, opset):
    """A mask that is a model input and one that the call brings do the same; a row may keep nothing."""
    for dtype in DTYPES:
        for shape in SHAPES[1:] if dtype is np.float32 else SHAPES[1:3]:
            x = (rng.standard_normal(shape) * 8).astype(dtype)
            mask = rng.integers(0, 2, in_front(x).shape[:2])
            mask[0], mask[1] = 0, 1
            if np.dtype(dtype).kind == "f":
                x[0] = np.inf  # padding may hold anything
            expected = masked_reference(kind, x, mask != 0)
            model = watched(model_of, dtype, len(shape), opset)
            by_input = Reduction(ReductionKind(kind), mask_input="m")
            close(reduced(model, plan_of, run, by_input, {"x": x, "m": mask}), expected, dtype, kind)
            brought = Reduction(ReductionKind(kind), mask_value="words")
            segment = build(model, plan_of(("h", brought)))
            assert segment.inputs == ("x",)
            values = run(segment, {"x": x, segment.masks["words"]: mask != 0})
            close(values[segment.captures["h"]], expected, dtype, kind)


@pytest.mark.parametrize("opset", OPSETS)
def test_an_axis_can_be_named(model_of, plan_of, run, rng, opset):
    """Also from the end, and for values whose rank only a run tells."""
    x = rng.standard_normal((3, 4, 5)).astype(np.float32)
    for declared in (True, False):
        model = watched(model_of, np.float32, 3, opset, declared=declared)
        for axis in (1, -1, -2):
            expected = {
                ReductionKind.MEAN: x.mean(axis),
                ReductionKind.MAX: x.max(axis),
                ReductionKind.FIRST: x.take(0, axis),
                ReductionKind.LAST: x.take(-1, axis),
                ReductionKind.NORM: np.linalg.norm(x, axis=axis),
            }
            for kind, value in expected.items():
                got = reduced(model, plan_of, run, Reduction(kind, axis=axis), {"x": x})
                np.testing.assert_allclose(got, value, rtol=1e-6, atol=1e-6)
            for index in (0, 2, -1):
                one = Reduction(ReductionKind.INDEX, axis=axis, index=index)
                np.testing.assert_array_equal(reduced(model, plan_of, run, one, {"x": x}), x.take(index, axis))


def test_a_mask_can_stand_along_a_named_axis(model_of, plan_of, run, rng):
    """Masked positions are then those of that axis; the other axes stay."""
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    mask = np.array([[1, 0, 1, 0], [0, 1, 1, 1]])
    model = watched(model_of, np.float32, 4, 17)
    last = reduced(model, plan_of, run, Reduction(ReductionKind.LAST, axis=2, mask_input="m"), {"x": x, "m": mask})
    np.testing.assert_array_equal(last, np.stack([x[0, :, 2], x[1, :, 3]]))
    mean = reduced(model, plan_of, run, Reduction(ReductionKind.MEAN, axis=-2, mask_input="m"), {"x": x, "m": mask})
    expected = np.stack([x[0][:, [0, 2]].mean(1), x[1][:, [1, 2, 3]].mean(1)])
    np.testing.assert_allclose(mean, expected, rtol=1e-6)


@pytest.mark.parametrize("opset", [9, 13, 21])
def test_a_nan_is_the_maximum(model_of, plan_of, run, opset):
    """As in numpy: one bad position shows, unless the mask leaves it out."""
    for dtype in (np.float32, np.float64, np.float16):
        x = np.arange(24, dtype=dtype).reshape(2, 4, 3)
        x[:, 2, 1] = np.nan
        model = watched(model_of, dtype, 3, opset)
        got = reduced(model, plan_of, run, Reduction(ReductionKind.MAX), {"x": x})
        np.testing.assert_array_equal(got, x.max(1))
        feeds = {"x": x, "m": np.array([[1, 1, 0, 0], [1, 1, 1, 0]])}
        kept = reduced(model, plan_of, run, Reduction(ReductionKind.MAX, mask_input="m"), feeds)
        np.testing.assert_array_equal(kept, np.stack([x[0, :2].max(0), x[1, :3].max(0)]))


@pytest.mark.parametrize("opset", OPSETS)
def test_topk_gives_the_largest_first(model_of, plan_of, run, rng, opset):
    """Along the last axis, or a named one."""
    for dtype in DTYPES:
        if opset < 11 and np.dtype(dtype).kind == "i":
            continue
        x = (rng.standard_normal((3, 4, 5)) * 8).astype(dtype)
        model = watched(model_of, dtype, 3, opset)
        got = reduced(model, plan_of, run, Reduction(ReductionKind.TOPK, k=2), {"x": x})
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, np.sort(x, -1)[..., ::-1][..., :2])
        first = reduced(model, plan_of, run, Reduction(ReductionKind.TOPK, k=1, axis=1), {"x": x})
        np.testing.assert_array_equal(first, x.max(1, keepdims=True))


@pytest.mark.parametrize("kind", ["first", "last", "positions", "flatten"])
def test_text_can_be_picked(model_of, plan_of, run, kind):
    """What moves entries moves strings."""
    x = np.array([[["a", "b"], ["c", "d"]]], object)
    got = reduced(watched(model_of, object, 3, 17), plan_of, run, Reduction(ReductionKind(kind)), {"x": x})
    assert got.tolist() == reference(kind, x).tolist()


def test_text_is_not_picked_by_a_mask(model_of, plan_of):
    """The Gather behind it loses strings."""
    with pytest.raises(ReductionInvalidError, match="no text by a mask"):
        build(watched(model_of, object, 3, 17), plan_of(("h", Reduction(ReductionKind.LAST, mask_input="m"))))


@pytest.mark.parametrize("kind", ["mean", "max", "last", "norm", "topk"])
def test_bfloat16_keeps_its_type(model_of, plan_of, kind):
    """It is widened for the kernels that lack it and narrowed again."""
    import onnxruntime as ort

    k = 1 if kind == "topk" else None
    model = watched(model_of, ml_dtypes.bfloat16, 3, 18)
    segment = build(model, plan_of(("h", Reduction(ReductionKind(kind), k=k))))
    session = ort.InferenceSession(segment.graph, providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].type == "tensor(bfloat16)"


@pytest.mark.parametrize("kind", ["mean", "positions", "flatten", "norm"])
def test_no_rows_are_no_rows(model_of, plan_of, run, kind):
    """An empty batch gives an empty result."""
    x = np.zeros((0, 4, 2, 2), np.float32)
    model = watched(model_of, np.float32, 4, 18)
    got = reduced(model, plan_of, run, Reduction(ReductionKind(kind)), {"x": x})
    assert got.shape == reference(kind, x).shape


def test_plain_and_reduced_captures_share_a_graph(model_of, plan_of, run):
    """Only results leave; two reductions share one mask; captures keep the plan's order."""
    model = model_of("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N,P,F] x) => (float[N,P,F] y) { a = Relu(x) b = Neg(a) y = Exp(b) }
    """)
    mean = Reduction(ReductionKind.MEAN, mask_value="words")
    last = Reduction(ReductionKind.LAST, mask_value="words")
    segment = build(model, plan_of(("b", mean), "a", ("x", last), outputs=OutputMode.UNMODIFIED))
    assert list(segment.captures) == ["b", "a", "x"]
    assert list(segment.masks) == ["words"]
    x = np.arange(8, dtype=np.float32).reshape(1, 4, 2)
    mask = np.array([[True, True, False, False]])
    values = run(segment, {"x": x, segment.masks["words"]: mask})
    np.testing.assert_array_equal(values[segment.captures["b"]], [[-1, -2]])
    np.testing.assert_array_equal(values[segment.captures["x"]], [[2, 3]])
    np.testing.assert_array_equal(values["a"], x)
    assert set(values) == {"y", *(reading.name for reading in segment.captures.values())}


@pytest.mark.parametrize(
    ("reduction", "rank", "opset", "text"),
    [
        (Reduction(ReductionKind.MEAN), 2, 17, "no positions"),
        (Reduction(ReductionKind.POSITIONS), 2, 17, "no positions"),
        (Reduction(ReductionKind.SPATIAL_MEAN), 2, 17, "no spatial"),
        (Reduction(ReductionKind.NORM), 1, 17, "no features"),
        (Reduction(ReductionKind.FLATTEN), 0, 17, "scalar"),
        (Reduction(ReductionKind.TOPK, k=1), 0, 17, "axes and none numbered -1"),
        (Reduction(ReductionKind.TOPK), 2, 17, "needs k"),
        (Reduction(ReductionKind.TOPK, k=0), 2, 17, "needs k"),
        (Reduction(ReductionKind.INDEX, axis=1), 2, 17, "needs an axis and an index"),
        (Reduction(ReductionKind.MEAN, axis=3), 3, 17, "none numbered 3"),
        (Reduction(ReductionKind.POSITIONS, axis=0), 3, 17, "axis 0 holds the rows"),
        (Reduction(ReductionKind.NORM, mask_input="m"), 3, 17, "takes no mask"),
        (Reduction(ReductionKind.MEAN, mask_input="nowhere"), 3, 17, "'nowhere' is no input"),
        (Reduction(ReductionKind.MEAN, mask_input="m", mask_value="w"), 3, 17, "one mask"),
        (Reduction(ReductionKind.MEAN, mask_input="m"), 3, 8, "opset 9 and the model has 8"),
        (Reduction(ReductionKind.MEAN), 3, 6, "opset 7 and the model has 6"),
    ],
)
def test_what_does_not_fit_is_refused(model_of, plan_of, reduction, rank, opset, text):
    """The error names the hook point and says what to do instead."""
    model = watched(model_of, np.float32, rank, opset)
    with pytest.raises(ReductionInvalidError, match=text) as caught:
        build(model, plan_of(("h", reduction)))
    assert caught.value.metadata == {"address": "h", "reduction": reduction.kind.value}


def test_an_unknown_rank_asks_for_an_axis(model_of, plan_of):
    """Without a rank nobody knows which axes are positions."""
    model = watched(model_of, np.float32, 3, 17, declared=False)
    with pytest.raises(ReductionInvalidError, match="Say axis="):
        build(model, plan_of(("h", Reduction(ReductionKind.MEAN))))


def test_a_fixed_size_bounds_index_and_k(model_of, plan_of):
    """What can't be there is refused before anything runs."""
    model = model_of("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3] x) => (float[N,3] h) { h = Relu(x) }
    """)
    with pytest.raises(ReductionInvalidError, match="3 entries and none numbered 3"):
        build(model, plan_of(("h", Reduction(ReductionKind.INDEX, axis=1, index=3))))
    with pytest.raises(ReductionInvalidError, match="fewer than the 4"):
        build(model, plan_of(("h", Reduction(ReductionKind.TOPK, k=4))))


@pytest.mark.parametrize(
    ("dtype", "kind", "text"),
    [(object, "mean", "no mean"), (object, "max", "compares no string"), (np.uint64, "max", "no uint64")],
)
def test_elements_without_an_order_or_a_mean_are_refused(model_of, plan_of, dtype, kind, text):
    """Text has neither; the kernels have no 64-bit unsigned comparison."""
    with pytest.raises(ReductionInvalidError, match=text):
        build(watched(model_of, dtype, 3, 17), plan_of(("h", Reduction(ReductionKind(kind)))))


def test_sequences_are_not_reduced(model_of, plan_of):
    """A list of arrays has no axes."""
    model = model_of("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y) { s = SequenceConstruct(x, x) y = ConcatFromSequence <axis=0> (s) }
    """)
    with pytest.raises(ReductionInvalidError, match="not an array"):
        build(model, plan_of(("s", Reduction(ReductionKind.MEAN))))


def test_a_mask_of_another_size_fails_and_says_where(model_of, plan_of, run):
    """It is never stretched over positions that it does not have."""
    model = watched(model_of, np.float32, 3, 17)
    segment = build(model, plan_of(("h", Reduction(ReductionKind.MEAN, mask_input="m"))))
    feeds = {"x": np.ones((2, 4, 3), np.float32), "m": np.ones((2, 1), np.int64)}
    with pytest.raises(Exception, match="h::mean::mask"):
        run(segment, feeds)
