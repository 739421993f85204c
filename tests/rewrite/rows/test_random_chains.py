"""Whatever chain of operators is proved to keep rows apart does."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.rewrite.rows.conftest import check_by_running

from onnxscope_server.domain import Segment
from onnxscope_server.rewrite.rows import MixedRowsError, row_axes

AXES = st.integers(-1, 2)
SIZES = st.sampled_from([-1, 0, 1, 2, 3, 4, 6, 12])


def _constant(numbers) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.array(numbers))


@st.composite
def chains(draw) -> onnx.ModelProto:
    """Models of x [rows, 2, 6] whose operators and axes are drawn without a thought for rows."""
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []
    current = "x"

    def weight(numbers) -> str:
        name = f"w{len(initializers)}"
        tensor = _constant(numbers)
        tensor.name = name
        initializers.append(tensor)
        return name

    def integers(strategy, least: int = 1, most: int = 3) -> str:
        return weight(np.array(draw(st.lists(strategy, min_size=least, max_size=most)), np.int64))

    def floats(shape) -> str:
        return weight(np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape))

    def add(op_type: str, *inputs: str, **attributes) -> str:
        name = f"v{len(nodes)}"
        nodes.append(onnx.helper.make_node(op_type, inputs, [name], **attributes))
        return name

    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(sorted(KINDS)))
        current = KINDS[kind](draw, current, add, weight, integers, floats)
    x = onnx.helper.make_tensor_value_info("x", 1, ["rows", 2, 6])
    main = onnx.helper.make_graph(nodes, "m", [x], [onnx.ValueInfoProto(name=current)], initializers)
    return onnx.helper.make_model(main, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)


def _counted(draw, current, add, integers) -> str:
    """A shape made of one that was read, and numbers around it."""
    start = draw(st.integers(0, 2))
    part = add("Shape", current, start=start, end=start + draw(st.integers(1, 2)))
    if draw(st.booleans()):
        part = add("Mul", part, integers(st.integers(1, 3), 1, 1))
    pieces = [part, integers(SIZES)]
    return add("Concat", *(pieces if draw(st.booleans()) else pieces[::-1]), axis=0)


KINDS = {
    "reshape": lambda draw, x, add, weight, integers, floats: add("Reshape", x, integers(SIZES)),
    "reshape by counts": lambda draw, x, add, weight, integers, floats: add(
        "Reshape", x, _counted(draw, x, add, integers)
    ),
    "expand": lambda draw, x, add, weight, integers, floats: add("Expand", x, _counted(draw, x, add, integers)),
    "flatten": lambda draw, x, add, weight, integers, floats: add("Flatten", x, axis=draw(AXES)),
    "transpose": lambda draw, x, add, weight, integers, floats: add(
        "Transpose", x, perm=draw(st.permutations(range(draw(st.integers(2, 3)))))
    ),
    "softmax": lambda draw, x, add, weight, integers, floats: add("Softmax", x, axis=draw(AXES)),
    "sum": lambda draw, x, add, weight, integers, floats: add(
        "ReduceSum", x, integers(AXES, 1, 2), keepdims=draw(st.integers(0, 1))
    ),
    "running sum": lambda draw, x, add, weight, integers, floats: add("CumSum", x, weight(np.array(draw(AXES)))),
    "concat": lambda draw, x, add, weight, integers, floats: add("Concat", x, x, axis=draw(AXES)),
    "add": lambda draw, x, add, weight, integers, floats: add(
        "Add", x, floats(draw(st.lists(st.sampled_from([1, 2, 6]), max_size=3)))
    ),
    "add itself": lambda draw, x, add, weight, integers, floats: add(
        "Add", x, add("Transpose", x, perm=draw(st.permutations(range(draw(st.integers(2, 3))))))
    ),
    "product": lambda draw, x, add, weight, integers, floats: add(
        "MatMul", x, floats([draw(st.sampled_from([2, 6, 12])), 3])
    ),
    "product from the left": lambda draw, x, add, weight, integers, floats: add(
        "MatMul", floats([3, draw(st.sampled_from([2, 6]))]), x
    ),
    "product with itself": lambda draw, x, add, weight, integers, floats: add(
        "MatMul", x, add("Transpose", x, perm=draw(st.permutations(range(draw(st.integers(2, 3))))))
    ),
    "gather": lambda draw, x, add, weight, integers, floats: add(
        "Gather", x, integers(st.integers(0, 1), 1, 2), axis=draw(AXES)
    ),
    "slice": lambda draw, x, add, weight, integers, floats: add(
        "Slice",
        x,
        integers(st.integers(0, 1), 1, 1),
        weight(np.array([draw(st.sampled_from([1, 2, 2**62]))])),
        integers(AXES, 1, 1),
    ),
    "squeeze": lambda draw, x, add, weight, integers, floats: add("Squeeze", x, integers(AXES, 1, 1)),
    "squeeze all": lambda draw, x, add, weight, integers, floats: add("Squeeze", x),
    "unsqueeze": lambda draw, x, add, weight, integers, floats: add("Unsqueeze", x, integers(AXES, 1, 1)),
    "tile": lambda draw, x, add, weight, integers, floats: add("Tile", x, integers(st.integers(1, 2), 2, 3)),
    "reverse": lambda draw, x, add, weight, integers, floats: add(
        "Slice", x, weight(np.array([-1])), weight(np.array([-(2**62)])), integers(AXES, 1, 1), weight(np.array([-1]))
    ),
    "norm": lambda draw, x, add, weight, integers, floats: add("LpNormalization", x, axis=draw(AXES), p=1),
    "arg": lambda draw, x, add, weight, integers, floats: add(
        "Cast", add("ArgMax", x, axis=draw(AXES), keepdims=draw(st.integers(0, 1))), to=1
    ),
}


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(model=chains(), seed=st.integers(0, 99))
def test_what_is_proved_holds(model: onnx.ModelProto, seed: int) -> None:
    """Rows joined give what they give alone, and other rows beside them change nothing."""
    name = model.graph.output[0].name
    segment = Segment(model.SerializeToString(), None, {}, (name,), ("x",), {}, 1)
    try:
        axes = row_axes(segment, {"x": (2, 6)})
    except MixedRowsError:
        event("refused")
        return
    rng = np.random.default_rng(seed)
    own, other, another = ({"x": rng.standard_normal((rows, 2, 6), dtype=np.float32)} for rows in (2, 1, 3))
    try:
        check_by_running(segment, [own], axes)
    except AssertionError:
        print(onnx.printer.to_text(model), axes)
        raise
    except Exception:  # noqa: BLE001  # sizes that don't fit each other fail for one caller too
        event("does not run")
        return
    event("proved")
    print(onnx.printer.to_text(model), axes)
    check_by_running(segment, [own, other], axes)
    check_by_running(segment, [another, own], axes)
