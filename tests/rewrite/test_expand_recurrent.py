"""Gates and states of LSTM, GRU and RNN: those of the fused operator, to 1e-5, in every form that it has."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscope_server.domain import DataType, OutputMode, TensorType
from onnxscope_server.rewrite.build import build

RNG = np.random.default_rng(0)
POSITIONS, ROWS, FEATURES, UNITS = 6, 3, 4, 5
LENGTHS = np.array([6, 2, 4], np.int32)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
X = RNG.standard_normal((POSITIONS, ROWS, FEATURES)).astype(np.float32)
ALL = ("B", "sequence_lens", "initial_h", "initial_c", "P")


def _model(op_type: str, given: tuple[str, ...] = ALL, opset: int = 17, **attributes) -> onnx.ModelProto:
    """A model of one node with these of the optional inputs."""
    gates, directions = GATES[op_type] * UNITS, 2 if attributes.get("direction") == "bidirectional" else 1
    shapes = {
        "W": (directions, gates, FEATURES),
        "R": (directions, gates, UNITS),
        "B": (directions, 2 * gates),
        "initial_h": (directions, ROWS, UNITS),
        "initial_c": (directions, ROWS, UNITS),
        "P": (directions, 3 * UNITS),
    }
    weights = {name: 0.4 * RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    weights["sequence_lens"] = LENGTHS
    names = ["W", "R", "B", "sequence_lens", "initial_h", *(["initial_c", "P"] if op_type == "LSTM" else [])]
    names = [name if name in {"W", "R", *given} else "" for name in names]
    outputs = ["Y", "Y_h", *(["Y_c"] if op_type == "LSTM" else [])]
    graph = helper.make_graph(
        [helper.make_node(op_type, ["X", *names], outputs, name="n", hidden_size=UNITS, **attributes)],
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["s", "b", FEATURES])],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(weights[name], name) for name in names if name],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _parts(model):
    return [point.address for point in model.points(expand=True) if "::expand::" in point.address]


def _compared(model_of, plan_of, run, proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Captures all parts; checks that the node gives what it did, and that H and C are those of the node."""
    node = proto.graph.node[0]
    model = model_of(proto)
    before = run(proto.SerializeToString(), {"X": X})
    found = run(build(model, plan_of(*_parts(model), outputs=OutputMode.INSTRUMENTED, expand=True)), {"X": X})
    for name, value in before.items():
        np.testing.assert_array_equal(found[name], value)
    parts = {name.removeprefix("n::expand::"): value for name, value in found.items() if "::" in name}
    np.testing.assert_allclose(parts["H"], before["Y"], atol=1e-5)
    lengths = LENGTHS if "sequence_lens" in node.input else [POSITIONS] * ROWS
    direction = next((item.s for item in node.attribute if item.name == "direction"), b"forward")
    for name, final in (("C", "Y_c"), ("H", "Y_h")):
        for row, length in enumerate(lengths if name in parts and final in before else []):
            for index in range(parts[name].shape[1]):
                last = 0 if direction == b"reverse" or index else length - 1
                np.testing.assert_allclose(parts[name][last, index, row], before[final][index, row], atol=1e-5)
    for row, length in enumerate(lengths):
        assert all(not value[length:, :, row].any() for value in parts.values())
    return parts


@pytest.mark.parametrize("opset", [7, 8, 9, 11, 14, 22])
@pytest.mark.parametrize("op_type", GATES)
def test_every_opset(model_of, plan_of, run, op_type, opset):
    """Both directions, all inputs, in the spelling of every version of the operators."""
    _compared(model_of, plan_of, run, _model(op_type, opset=opset, direction="bidirectional"))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("given", [(), ("B",), ("sequence_lens",), ("initial_h",), ("initial_c",), ("P",)])
@pytest.mark.parametrize("op_type", GATES)
def test_every_input_and_direction(model_of, plan_of, run, op_type, given, direction):
    """Each optional input alone, and none of them."""
    _compared(model_of, plan_of, run, _model(op_type, given, direction=direction))


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("LSTM", {"clip": 0.3}),
        ("LSTM", {"input_forget": 1}),
        ("LSTM", {"input_forget": 1, "clip": 0.3}),
        ("GRU", {"linear_before_reset": 1}),
        ("GRU", {"linear_before_reset": 1, "clip": 0.3}),
        ("GRU", {"clip": 0.3}),
        ("RNN", {"clip": 0.3}),
        (
            "LSTM",
            {
                "direction": "bidirectional",
                "activations": ["HardSigmoid", "LeakyRelu", "Tanh", "sigmoid", "ScaledTanh", "Elu"],
                "activation_alpha": [0.3, 0.05, 0.9, 0.8],
                "activation_beta": [0.4, 0.7],
            },
        ),
    ],
)
def test_every_attribute(model_of, plan_of, run, op_type, attributes):
    """Clips, couplings and activation functions are those of the operator."""
    _compared(model_of, plan_of, run, _model(op_type, **attributes))


TAKES_BETA = {"Affine", "ScaledTanh", "HardSigmoid"}
TAKES_ALPHA = TAKES_BETA | {"LeakyRelu", "ThresholdedRelu", "Elu"}


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("function", sorted(TAKES_ALPHA | {"Relu", "Tanh", "Sigmoid", "Softsign", "Softplus"}))
def test_every_activation(model_of, plan_of, run, function, said):
    """With the numbers that are said, and with those that onnxruntime takes where none are."""
    numbers = {"activation_alpha": [0.3]} if said and function in TAKES_ALPHA else {}
    numbers |= {"activation_beta": [0.6]} if said and function in TAKES_BETA else {}
    _compared(model_of, plan_of, run, _model("RNN", activations=[function], **numbers))


def test_gates_make_up_the_states(model_of, plan_of, run):
    """C = f * C before + i * c_tilde, H = o * tanh(C): the parts fit together."""
    parts = _compared(model_of, plan_of, run, _model("LSTM", ("B",)))
    before = np.concatenate([np.zeros_like(parts["C"][:1]), parts["C"][:-1]])
    np.testing.assert_allclose(parts["f"] * before + parts["i"] * parts["c_tilde"], parts["C"], atol=1e-6)
    np.testing.assert_allclose(parts["o"] * np.tanh(parts["C"]), parts["H"], atol=1e-6)


def test_gates_of_a_gru_make_up_its_state(model_of, plan_of, run):
    """H = (1 - z) * h_tilde + z * H before."""
    parts = _compared(model_of, plan_of, run, _model("GRU", ("B",)))
    before = np.concatenate([np.zeros_like(parts["H"][:1]), parts["H"][:-1]])
    np.testing.assert_allclose((1 - parts["z"]) * parts["h_tilde"] + parts["z"] * before, parts["H"], atol=1e-6)


@pytest.mark.parametrize(
    ("op_type", "names"),
    [("LSTM", ["i", "o", "f", "c_tilde", "C", "H"]), ("GRU", ["z", "r", "h_tilde", "H"]), ("RNN", ["H"])],
)
def test_names_and_types(model_of, op_type, names):
    """Each part is [position, direction, row, unit], typed like the input."""
    points = model_of(_model(op_type, direction="bidirectional")).points(expand=True)
    parts = [point for point in points if "::expand::" in point.address]
    assert [point.address for point in parts] == [f"n::expand::{name}" for name in names]
    assert {point.op_type for point in parts} == {op_type}
    assert {point.type for point in parts} == {TensorType(DataType.FLOAT32, ("s", 2, "b", UNITS))}
