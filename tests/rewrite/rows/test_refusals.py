"""What is refused, and why: the reason names the operator."""

from __future__ import annotations

import onnx
import pytest

from onnxscope_server.domain import Each, Output, Segment
from onnxscope_server.rewrite.rows import MixedRowsError, row_axes

# operators that make one row's values depend on another's: body of a model of x [rows, 4], opset 18, and the reason
MIXING = {
    "dynamic quantisation": ("y, s, z = DynamicQuantizeLinear(x)", "DynamicQuantizeLinear.*quantises dynamically"),
    "batch statistics": (
        "y, m, v = BatchNormalization<training_mode = 1>(x, four, four, four, four)",
        "BatchNormalization.*statistics of the whole batch",
    ),
    "sum over rows": ("axes = Constant<value_ints = [0]>() y = ReduceSum(x, axes)", "ReduceSum.*reduces over the rows"),
    "sum over all": ("y = ReduceMax(x)", "ReduceMax.*over all axes"),
    "softmax": ("y = Softmax<axis = 0>(x)", "Softmax.*over the rows"),
    "norm": ("y = LpNormalization<axis = 0>(x)", "LpNormalization.*along the rows"),
    "layer norm": ("y = LayerNormalization<axis = 0>(x, four)", "LayerNormalization.*over the rows"),
    "running sum": ("axis = Constant<value_int = 0>() y = CumSum(x, axis)", "CumSum.*along the rows"),
    "order": ("k = Constant<value_ints = [1]>() y, i = TopK<axis = 0>(x, k)", "TopK.*rows in order"),
    "maximum": ("y = ArgMax<axis = 0>(x)", "ArgMax.*over the rows"),
    "places of what is not zero": ("y = NonZero(x)", "NonZero.*not known to compute each row"),
    "distinct": ("y = Unique(x)", "Unique.*not known to compute each row"),
    "chosen rows": (
        "c = Constant<value_ints = [1, 0]>() b = Cast<to = 9>(c) y = Compress<axis = 0>(x, b)",
        "Compress.*not known",
    ),
    "picked rows": ("i = Constant<value_ints = [0, 0]>() y = Gather<axis = 0>(x, i)", "Gather.*picks some of the rows"),
    "first row": (
        "a = Constant<value_ints = [0]>() b = Constant<value_ints = [1]>() y = Slice(x, a, b, a)",
        "Slice.*takes some of the rows",
    ),
    "split": ("y, z = Split<axis = 0, num_outputs = 2>(x)", "Split.*along the rows"),
    "padded": ("p = Constant<value_ints = [0, 0, 1, 0]>() y = Pad(x, p)", "Pad.*adds or takes away rows"),
    "repeated": ("r = Constant<value_ints = [2, 1]>() y = Tile(x, r)", "Tile.*repeats the rows"),
    "rows behind rows": ("y = Concat<axis = 0>(x, x)", "Concat.*behind those of another"),
    "fixed shape": ("s = Constant<value_ints = [2, 2]>() y = Reshape(x, s)", "Reshape.*does not grow"),
    "rows cut apart": ("s = Constant<value_ints = [-1, 3]>() y = Reshape(x, s)", "Reshape.*stays together"),
    "one long row": ("s = Constant<value_ints = [1, -1]>() y = Reshape(x, s) z = Softmax(y)", "Softmax.*over the rows"),
    "single row dropped": ("y = Squeeze(x)", "Squeeze.*drops all axes of size 1"),
    "an order of other axes": ("a = Transpose<perm = [0]>(x) y = Transpose<perm = [0]>(a)", "Transpose.*rank"),
    "products of rows": ("t = Transpose(x) y = MatMul(x, t)", "MatMul.*rows with each other"),
    "sums over rows": ("t = Transpose(x) y = MatMul(t, x)", "MatMul.*adds up over the rows"),
    "products": ("y = Gemm<transA = 1>(x, x)", "Gemm.*rows with each other"),
    "equation": ('y = Einsum<equation = "ij,ij->j">(x, x)', "Einsum.*adds up over the rows"),
    "a weight for each row": (
        "w = Constant<value_floats = [1.0, 2.0]>() a = Constant<value_ints = [1]>() v = Unsqueeze(w, a) y = Mul(x, v)",
        "Mul.*an entry for each",
    ),
    "the number of rows": ("s = Shape(x) f = Cast<to = 1>(s) y = Mul(x, f)", "Mul.*number of rows"),
    "row numbers": (
        (
            "s = Shape<end = 1>(x) n = Squeeze(s) a = Constant<value_int = 0>() b = Constant<value_int = 1>() "
            "y = Range(a, n, b)"
        ),
        "Range.*number of rows",
    ),
    "random numbers": ("y = RandomNormalLike(x)", "RandomNormalLike.*random"),
    "training": (
        "r = Constant<value_float = 0.5>() t = Constant<value_int = 1>() b = Cast<to = 9>(t) y = Dropout(x, r, b)",
        "Dropout.*training mode",
    ),
    "places in the batch": (
        "a = Constant<value_ints = [1]>() v = Unsqueeze(x, a) y, i = MaxPool<kernel_shape = [2]>(v)",
        "MaxPool.*places in the whole batch",
    ),
    "statistics over axes": (
        "a = Constant<value_ints = [2, 3]>() v = Unsqueeze(x, a) y = MeanVarianceNormalization(v)",
        "MeanVarianceNormalization.*over the rows",
    ),
    "another size": (
        (
            "a = Constant<value_ints = [1, 2]>() v = Unsqueeze(x, a) "
            "s = Constant<value_floats = [2.0, 1.0, 1.0, 1.0]>() "
            'y = Resize<mode = "nearest">(v, "", s)'
        ),
        "Resize.*along the rows",
    ),
    "steps along rows": (
        "a = Constant<value_ints = [1]>() v = Unsqueeze(x, a) y = RNN<hidden_size = 2>(v, w, r)",
        "RNN.*steps along the rows",
    ),
    "branches by rows": (
        (
            "a = Constant<value_ints = [1]>() m = ReduceMax<keepdims = 0>(f, a) c = Cast<to = 9>(m) "
            "y = If(c) <then_branch = t () => (float[n, 4] p) { p = Neg(x) }, "
            "else_branch = e () => (float[n, 4] q) { q = Abs(x) }>"
        ),
        "If.*computes its input 0 from the rows",
    ),
    "a body that runs again": (
        "k = Constant<value_int = 2>() y = Loop(k, '', x) <body = b (int64 i, bool c, float[n, 4] s) => "
        "(bool d, float[n, 4] t) { d = Identity(c) t = Neg(s) }>".replace("''", '""'),
        "Loop.*runs a body on rows",
    ),
    "a foreign operator": ("y = com.example.Mystery(x)", "Mystery.*not known to compute each row"),
}


def _model(body: str) -> str:
    return f"""<ir_version: 9, opset_import: ["" : 18, "com.example" : 1]>
        m (float[rows, 4] x) => (y)
        <float[4] four = {{1.0, 2.0, 3.0, 4.0}}, float[1, 2, 4] w = {{1, 2, 3, 4, 5, 6, 7, 8}},
         float[1, 2, 2] r = {{1, 2, 3, 4}}>
        {{ f = Identity(x) {body} }}"""


@pytest.mark.parametrize("what", MIXING)
def test_what_mixes_rows_is_refused_by_name(what: str, segment_of) -> None:
    """Each kind of operator that lets one row see another is refused, and the text says which and why."""
    body, reason = MIXING[what]
    with pytest.raises(MixedRowsError, match=reason):
        row_axes(segment_of(_model(body)), {"x": (4,)})


def test_a_value_that_is_the_number_of_rows_is_refused(segment_of) -> None:
    """A shape among what is read would be that of all callers together."""
    segment = segment_of(_model("y = Shape(x)"))
    with pytest.raises(MixedRowsError, match="'y' holds the number of rows"):
        row_axes(segment, {"x": (4,)})


def test_a_fixed_batch_is_refused(segment_of) -> None:
    """An input whose first axis has a declared size has no rows; a scalar has none either."""
    fixed = "f (float[3, 4] x) => (float[3, 4] y) { y = Neg(x) }"
    with pytest.raises(MixedRowsError, match="'x' has a fixed size"):
        row_axes(segment_of(f'<ir_version: 9, opset_import: ["" : 18]> {fixed}'), {"x": (4,)})


def test_an_input_that_is_not_given_is_refused(segment_of) -> None:
    """Nothing is known of an optional input that a caller leaves out."""
    text = '<ir_version: 9, opset_import: ["" : 18]> two '
    text += "(float[n, 4] x, float[n, 4] z) => (float[n, 4] y) { y = Add(x, z) }"
    with pytest.raises(MixedRowsError, match="nothing is known of 'z'"):
        row_axes(segment_of(text), {"x": (4,)})


def test_what_is_read_out_of_a_body_is_refused(segment_of) -> None:
    """Values of iterations are put together after the run, and are not taken apart."""
    whole = segment_of(_model("y = Neg(x)"))
    segment = Segment(whole.graph, None, {"a": Each(Output("y"))}, (), whole.inputs, {}, 1)
    with pytest.raises(MixedRowsError, match="'a' is read out of a body"):
        row_axes(segment, {"x": (4,)})


def test_functions_that_unfold_without_end_are_refused() -> None:
    """Two kilobytes of functions that call each other make millions of nodes; the walk ends before."""
    functions = []
    for level in range(24):
        below = f"level{level - 1}" if level else "Neg"
        domain = "local" if level else ""
        nodes = [onnx.helper.make_node(below, [a], [b], domain=domain) for a, b in (("x", "m"), ("m", "y"))]
        imports = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("local", 1)]
        functions.append(onnx.helper.make_function("local", f"level{level}", ["x"], ["y"], nodes, imports))
    node = onnx.helper.make_node("level23", ["x"], ["y"], domain="local")
    x, y = (onnx.helper.make_tensor_value_info(name, 1, ["rows", 4]) for name in "xy")
    main = onnx.helper.make_graph([node], "bomb", [x], [y])
    imports = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("local", 1)]
    model = onnx.helper.make_model(main, functions=functions, opset_imports=imports, ir_version=9)
    segment = Segment(model.SerializeToString(), None, {}, ("y",), ("x",), {}, 1)
    with pytest.raises(MixedRowsError, match="more than 100,000 nodes"):
        row_axes(segment, {"x": (4,)})
