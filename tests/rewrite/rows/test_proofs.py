"""What is proved: where rows go, and that they give together what they give alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxscope_server.domain import Output, OutputMode, Reduction, ReductionKind, RowAxis, Segment
from onnxscope_server.rewrite.build import build, unmodified
from onnxscope_server.rewrite.rows import MixedRowsError, row_axes

# bodies of models of x [rows, 2, 6], opset 18, and where the rows of y are
KEEPING = {
    "rows move": ("y = Transpose<perm = [2, 0, 1]>(x)", RowAxis(1, 1)),
    "rows and what is in them merge": ("s = Constant<value_ints = [-1, 6]>() y = Reshape(x, s)", RowAxis(0, 2)),
    "and part again": (
        (
            "s = Constant<value_ints = [-1, 6]>() a = Reshape(x, s) b = Softmax(a) "
            "t = Constant<value_ints = [-1, 2, 6]>() y = Reshape(b, t)"
        ),
        RowAxis(0, 1),
    ),
    "rows are counted": (
        "s = Shape<end = 1>(x) e = Constant<value_ints = [3, -1]>() t = Concat<axis = 0>(s, e) y = Reshape(x, t)",
        RowAxis(0, 1),
    ),
    "rows times heads": (
        (
            "s = Shape<end = 1>(x) two = Constant<value_ints = [2]>() n = Mul(s, two) e = Constant<value_ints = [6]>() "
            "t = Concat<axis = 0>(n, e) y = Reshape(x, t)"
        ),
        RowAxis(0, 2),
    ),
    "rows behind another axis": (
        "a = Transpose<perm = [1, 0, 2]>(x) s = Constant<value_ints = [0, 0, 3, 2]>() y = Reshape(a, s)",
        RowAxis(1, 1),
    ),
    "flattened": ("y = Flatten(x)", RowAxis(0, 1)),
    "flattened deep": ("y = Flatten<axis = 2>(x)", RowAxis(0, 2)),
    "axes come and go": (
        "a = Constant<value_ints = [0, 2]>() u = Unsqueeze(x, a) b = Constant<value_ints = [0]>() y = Squeeze(u, b)",
        RowAxis(0, 1),
    ),
    "stretched by a shape": (
        (
            "s = Shape<end = 1>(x) e = Constant<value_ints = [2, 4]>() t = Concat<axis = 0>(s, e) "
            "m = Constant<value_ints = [2]>() u = ReduceSum(x, m) y = Expand(u, t)"
        ),
        RowAxis(0, 1),
    ),
    "constants for each row": (
        (
            "s = Shape<end = 1>(x) e = Constant<value_ints = [2, 6]>() t = Concat<axis = 0>(s, e) "
            "c = ConstantOfShape<value = float[1] {2.0}>(t) y = Mul(x, c)"
        ),
        RowAxis(0, 1),
    ),
    "a shape with a hole": (
        (
            "s = Shape(x) o = ConstantOfShape<value = int64[1] {-1}>(three) q = Equal(s, o) "
            "v = Where(q, one3, s) y = Expand(x, v)"
        ),
        RowAxis(0, 1),
    ),
    "all of a slice": (
        (
            "a = Constant<value_ints = [0, 1]>() b = Constant<value_ints = [9223372036854775807, 4]>() "
            "c = Constant<value_ints = [0, 2]>() y = Slice(x, a, b, c)"
        ),
        RowAxis(0, 1),
    ),
    "a slice up to the number of rows": (
        "n = Shape<end = 1>(x) a = Constant<value_ints = [0]>() y = Slice(x, a, n, a)",
        RowAxis(0, 1),
    ),
    "embedding": ("i = Cast<to = 7>(x) t = Constant<value_floats = [1.0, 2.0, 3.0]>() y = Gather(t, i)", RowAxis(0, 1)),
    "columns": ("i = Constant<value_ints = [5, 0]>() y = Gather<axis = 2>(x, i)", RowAxis(0, 1)),
    "one of each": ("i = Constant<value_int = 1>() t = Transpose<perm = [1, 0, 2]>(x) y = Gather(t, i)", RowAxis(0, 1)),
    "picked by row": (
        "top = Constant<value_ints = [2]>() v, i = TopK(x, top) y = GatherElements<axis = 2>(x, i)",
        RowAxis(0, 1),
    ),
    "a recurrent layer": (
        "t = Transpose<perm = [1, 0, 2]>(x) y, h = GRU<hidden_size = 1>(t, w, r)",
        RowAxis(2, 1),
    ),
    "with a state that begins": (
        (
            "t = Transpose<perm = [1, 0, 2]>(x) n = Shape<start = 1, end = 2>(t) one = Constant<value_ints = [1]>() "
            "s = Concat<axis = 0>(one, n, one) z = ConstantOfShape(s) e, y = GRU<hidden_size = 1>(t, w, r, '', '', z)"
        ),
        RowAxis(1, 1),
    ),
    "attention by hand": (
        "t = Transpose<perm = [0, 2, 1]>(x) p = MatMul(x, t) q = Softmax(p) y = MatMul(q, x)",
        RowAxis(0, 1),
    ),
    "scores by equation": ('y = Einsum<equation = "nij,nkj->ink">(x, x)', RowAxis(1, 1)),
    "pictures": (
        (
            "s = Constant<value_ints = [-1, 1, 3, 4]>() p = Reshape(x, s) c = Conv<pads = [1, 1, 1, 1]>(p, kernel) "
            "m = GlobalAveragePool(c) y = Flatten(m)"
        ),
        RowAxis(0, 1),
    ),
    "resized by sizes": (
        (
            "s = Constant<value_ints = [-1, 1, 3, 4]>() p = Reshape(x, s) n = Shape<end = 1>(p) "
            "e = Constant<value_ints = [1, 6, 8]>() t = Concat<axis = 0>(n, e) "
            "y = Resize<mode = \"linear\">(p, '', '', t)"
        ),
        RowAxis(0, 1),
    ),
    "a branch that is known": (
        (
            "c = Constant<value_int = 1>() b = Cast<to = 9>(c) y = If(b) "
            "<then_branch = t () => (float[n, 2, 6] p) { p = Neg(x) }, "
            "else_branch = e () => (float q) { q = ReduceSum(x) }>"
        ),
        RowAxis(0, 1),
    ),
    "either branch": (
        (
            "b = Cast<to = 9>(free) y = If(b) "
            "<then_branch = t () => (float[n, 2, 6] p) { p = Neg(x) }, "
            "else_branch = e () => (float[n, 2, 6] q) { q = Abs(x) }>"
        ),
        RowAxis(0, 1),
    ),
    "what no row changes": ("y = Softmax<axis = 0>(w)", None),
    "a body that sees no rows": (
        (
            "n = Constant<value_int = 2>() y = Loop(n, '', free) <body = b (int64 i, bool c, float u) => "
            "(bool d, float t) { d = Identity(c) t = Neg(u) }>"
        ),
        None,
    ),
}


@pytest.mark.parametrize("what", KEEPING)
def test_rows_are_followed_to_where_they_go(what: str, segment_of, proved, rng) -> None:
    """The axis is the one that is said, and rows give together what they give alone."""
    body, place = KEEPING[what]
    text = f"""<ir_version: 9, opset_import: ["" : 18]>
        m (float[rows, 2, 6] x) => (y)
        <float[1, 3, 6] w = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}}, float[1, 3, 1] r = {{1, 2, 3}},
         float[2, 1, 3, 3] kernel = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}}, float free = {{1.0}},
         int64[1] three = {{3}}, int64[3] one3 = {{1, 1, 1}}>
        {{ {body} }}""".replace("''", '""')
    parts = [{"x": rng.random((rows, 2, 6), dtype=np.float32)} for rows in (1, 3, 2)]
    assert proved(segment_of(text), parts) == {"y": place}


@pytest.mark.parametrize("opset", [9, 18])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", [ReductionKind.MEAN, ReductionKind.MAX, ReductionKind.FIRST, ReductionKind.LAST])
def test_reductions_and_their_masks_keep_rows_apart(kind, masked, opset, model_of, plan_of, proved, rng) -> None:
    """What is grafted on is proved too; before opset 12 picking by a mask counts through the whole batch."""
    model = model_of(
        f"""<ir_version: 9, opset_import: ["" : {opset}]>
        m (float[rows, 5, 3] x) => (float[rows, 5, 3] y) {{ h = Tanh(x) y = Neg(h) }}"""
    )
    reduction = Reduction(kind, axis=1, mask_value="keep" if masked else None)
    segment = build(model, plan_of(("h", reduction)))
    parts = []
    for rows in (2, 1, 3):
        parts.append({"x": rng.random((rows, 5, 3), dtype=np.float32)})
        if masked:
            parts[-1][segment.masks["keep"]] = rng.random((rows, 5)) > 0.4
    if masked and opset < 12 and kind in (ReductionKind.FIRST, ReductionKind.LAST):
        with pytest.raises(MixedRowsError, match="NonZero"):
            proved(segment, parts)
        return
    assert set(proved(segment, parts).values()) == {RowAxis(0, 1)}


@pytest.mark.parametrize(
    ("reduction", "place"),
    [
        (Reduction(ReductionKind.POSITIONS), RowAxis(0, 4)),
        (Reduction(ReductionKind.FLATTEN), RowAxis(0, 1)),
        (Reduction(ReductionKind.SPATIAL_MEAN), RowAxis(0, 1)),
        (Reduction(ReductionKind.NORM), RowAxis(0, 1)),
        (Reduction(ReductionKind.INDEX, axis=2, index=1), RowAxis(0, 1)),
        (Reduction(ReductionKind.TOPK, k=2), RowAxis(0, 1)),
    ],
    ids=lambda item: getattr(getattr(item, "kind", None), "value", ""),
)
def test_each_reduction_says_where_its_rows_are(reduction, place, model_of, plan_of, proved, rng) -> None:
    """`positions` gives several entries a row; the others one."""
    model = model_of(
        """<ir_version: 9, opset_import: ["" : 18]>
        m (float[rows, 3, 2, 2] x) => (float[rows, 3, 2, 2] y) { h = Tanh(x) y = Neg(h) }"""
    )
    segment = build(model, plan_of(("h", reduction)))
    parts = [{"x": rng.random((rows, 3, 2, 2), dtype=np.float32)} for rows in (2, 1)]
    assert list(proved(segment, parts).values()) == [place]


def test_functions_are_followed(proved, rng) -> None:
    """A local function's nodes are walked with what its caller gives, attributes too."""
    node = onnx.helper.make_node("Softmax", ["a"], ["b"])
    node.attribute.add(name="axis", ref_attr_name="over", type=onnx.AttributeProto.INT)
    imports = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("local", 1)]
    function = onnx.helper.make_function("local", "soft", ["a"], ["b"], [node], imports, ["over"])
    x, y = (onnx.helper.make_tensor_value_info(name, 1, ["rows", 4]) for name in "xy")

    def segment(axis: int) -> Segment:
        call = onnx.helper.make_node("soft", ["x"], ["y"], domain="local", over=axis)
        main = onnx.helper.make_graph([call], "m", [x], [y])
        model = onnx.helper.make_model(main, functions=[function], opset_imports=imports, ir_version=9)
        return Segment(model.SerializeToString(), None, {}, ("y",), ("x",), {}, 1)

    parts = [{"x": rng.random((rows, 4), dtype=np.float32)} for rows in (1, 2)]
    assert proved(segment(1), parts) == {"y": RowAxis(0, 1)}
    with pytest.raises(MixedRowsError, match="Softmax normalises over the rows"):
        row_axes(segment(0), {"x": (4,)})


def test_models_of_scikit_learn_give_labels_and_maps_by_row(proved, rng) -> None:
    """A classifier's labels, and its list of maps, have one entry a row."""
    classifier = onnx.helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        coefficients=[1.0, 2.0, -1.0, 0.5],
        intercepts=[0.0, 0.1],
        classlabels_ints=[3, 7],
        multi_class=1,
        post_transform="SOFTMAX",
    )
    zipped = onnx.helper.make_node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[3, 7])
    x = onnx.helper.make_tensor_value_info("x", 1, ["rows", 2])
    label = onnx.helper.make_tensor_value_info("label", 7, ["rows"])
    maps = onnx.ValueInfoProto(name="maps")
    main = onnx.helper.make_graph([classifier, zipped], "m", [x], [label, maps])
    imports = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    model = onnx.helper.make_model(main, opset_imports=imports, ir_version=9)
    segment = Segment(model.SerializeToString(), None, {}, ("label", "maps"), ("x",), {}, 2)
    parts = [{"x": rng.random((rows, 2), dtype=np.float32)} for rows in (1, 3)]
    assert proved(segment, parts) == {"label": RowAxis(0, 1), "maps": RowAxis(0, 1)}


def test_every_value_of_the_demo_keeps_its_rows(digits_path: Path, model_of, plan_of, proved, rng) -> None:
    """All hook points of the CNN at once, and the unmodified model: rows along axis 0, where batch axes are found."""
    model = model_of(onnx.load(digits_path))
    addresses = [point.address for point in model.hook_points if point.kind in ("activation", "output")]
    parts = [{"image": rng.random((rows, 1, 8, 8), dtype=np.float32)} for rows in (3, 1)]
    for segment in (build(model, plan_of(*addresses, outputs=OutputMode.INSTRUMENTED)), unmodified(model)):
        assert set(proved(segment, parts).values()) == {RowAxis(0, 1)}


def test_nodes_out_of_order_are_put_in_order(proved, rng) -> None:
    """A file may list a node before those that it reads."""
    nodes = [onnx.helper.make_node("Neg", ["a"], ["y"]), onnx.helper.make_node("Abs", ["x"], ["a"])]
    x, y = (onnx.helper.make_tensor_value_info(name, 1, ["rows", 4]) for name in "xy")
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "m", [x], [y]), opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
    )
    segment = Segment(model.SerializeToString(), None, {"a": Output("y")}, (), ("x",), {}, 2)
    assert row_axes(segment, {"x": (4,)}) == {"y": RowAxis(0, 1)}
