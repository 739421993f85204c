"""A session: what it declares, how it is opened, and what it refuses."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TypeProto, external_data_helper, helper, numpy_helper

from onnxscope_server.domain import DataType, Segment, SequenceType, TensorType
from onnxscope_server.errors import InputMismatchError, ModelInvalidError, OutOfMemoryError, RunFailedError
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.session import Session

Tensor = Callable[..., TypeProto]
X = {"x": np.ones(2, np.float32)}
DATA_FOLDER = "session.model_external_initializers_file_folder_path"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of the test's own, empty at its end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    gc.collect()
    assert list(folder.iterdir()) == []


@pytest.fixture
def external(tmp_path: Path) -> Segment:
    """Adds a weight of ones from a file: x [2] -> y = x + w."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "weights").write_bytes(np.ones(2, np.float32).tobytes())
    weight = numpy_helper.from_array(np.ones(2, np.float32), "w")
    external_data_helper.set_external_data(weight, "weights", 0, 8)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, [2])],
        [helper.make_tensor_value_info("y", 1, [2])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return Segment(model.SerializeToString(), folder, {}, ("y",), ("x",), {}, 1)


def test_declarations_are_domain_types(make_session: Callable[..., Any], tensor: Tensor) -> None:
    """Inputs, outputs and providers are said in our own words; types that the graph leaves out are inferred."""
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    weight = numpy_helper.from_array(np.ones(2, np.float16), "w")
    inputs = {"x": tensor(DataType.FLOAT32, ["n", 3]), "w": tensor(DataType.FLOAT16, [2])}
    session = make_session([node], inputs, {"y": None}, [weight])
    assert session.inputs == {"x": TensorType(DataType.FLOAT32, ("n", 3))}
    assert session.optional_inputs == {"w": TensorType(DataType.FLOAT16, (2,))}
    assert session.outputs == {"y": SequenceType(TensorType(DataType.FLOAT32))}
    assert session.providers == ("CPUExecutionProvider",)


def test_a_default_may_be_overridden(make_session: Callable[..., Any], tensor: Tensor) -> None:
    """An input that is an initializer too may be given or left out."""
    kind = tensor(DataType.FLOAT32, [2])
    weight = numpy_helper.from_array(np.full(2, 5, np.float32), "w")
    node = helper.make_node("Add", ["x", "w"], ["y"])
    session = make_session([node], {"x": kind, "w": kind}, {"y": None}, [weight])
    assert session.run(X, ["y"])["y"].tolist() == [6, 6]
    assert session.run(X | {"w": np.zeros(2, np.float32)}, ["y"])["y"].tolist() == [1, 1]


def test_outputs_are_fetched_once_and_by_name(double: Segment) -> None:
    """A name that is asked for twice is computed once; asking for nothing runs nothing."""
    session: Any = Session(double, Opening(), exact=False)
    assert [*session.run(X, ["y", "y"])] == ["y"]
    assert session.run({}, []) == {}


@pytest.mark.parametrize("shape", [(0,), (3,)])
def test_any_size_along_a_symbol(double: Segment, shape: tuple[int, ...]) -> None:
    """A batch of nothing runs as onnxruntime runs it."""
    session: Any = Session(double, Opening(), exact=False)
    assert session.run({"x": np.ones(shape, np.float32)}, ["y"])["y"].shape == shape


def test_missing_and_unknown_inputs(double: Segment) -> None:
    """Both errors list what the run takes."""
    session: Any = Session(double, Opening(), exact=False)
    for feeds in ({}, {"x": None}):
        with pytest.raises(InputMismatchError, match=r"input 'x' is missing; the run needs x \(float32\)"):
            session.run(feeds, ["y"])
    with pytest.raises(InputMismatchError, match="there is no input 'z'; the run takes x"):
        session.run(X | {"z": X["x"]}, ["y"])


def test_what_onnxruntime_refuses_to_run(double: Segment) -> None:
    """The detail is onnxruntime's text without its C++, and the session runs on."""
    session: Any = Session(double, Opening(), exact=False)
    with pytest.raises(RunFailedError, match="Invalid rank for input: x") as raised:
        session.run({"x": np.ones((1, 2), np.float32)}, ["y"])
    assert "ONNXRuntimeError" not in raised.value.metadata["detail"]
    with pytest.raises(RunFailedError):
        session.run(X, ["nothing"])
    assert session.run(X, ["y"])["y"].tolist() == [2, 2]


def test_out_of_memory_is_survived(make_session: Callable[..., Any], tensor: Tensor) -> None:
    """A run that asks for 4 PiB fails alone."""
    node = helper.make_node("ConstantOfShape", ["n"], ["y"])
    session = make_session([node], {"n": tensor(DataType.INT64, [1])}, {"y": None})
    for size in (1 << 50, 1 << 62):
        with pytest.raises(OutOfMemoryError, match="Send a smaller batch"):
            session.run({"n": np.array([size])}, ["y"])
    assert session.run({"n": np.array([2])}, ["y"])["y"].tolist() == [0, 0]


def test_garbage_is_refused(double: Segment, capfd: pytest.CaptureFixture[str], temporary: Path) -> None:
    """Bytes that are no model give an error, and nothing on the terminal or on the disk."""
    for graph in (b"", b"\x89PNG", double.graph[:-9]):
        with pytest.raises(ModelInvalidError, match="onnxruntime refuses the model") as raised:
            Session(replace(double, graph=graph), Opening(), exact=False, fingerprint=lambda *_: {})
        assert set(raised.value.metadata) == {"detail"}
    out, err = capfd.readouterr()
    assert out + err == ""


def test_external_data_is_found(external: Segment) -> None:
    """A graph given as bytes reads its weights from its folder; without them it is refused."""
    opening = Opening()
    session: Any = Session(external, opening, exact=False)
    assert session.run(X, ["y"])["y"].tolist() == [2, 2]
    assert session.byte_count == len(external.graph) + 8
    with pytest.raises(ModelInvalidError):
        Session(replace(external, data_folder=None), opening, exact=False)


def test_exact_switches_optimisation_off(gelu: bytes, temporary: Path) -> None:
    """The optimised graph holds a fused operator, the exact one the operators that the model has."""

    def operators(file: Path, *_: Any) -> dict[str, int]:
        return {node.op_type: 1 for node in onnx.load(file).graph.node}

    segment = Segment(gelu, None, {}, ("y",), ("x",), {}, 5)
    fused = Session(segment, Opening(), exact=False, fingerprint=operators)
    plain = Session(segment, Opening(), exact=True, fingerprint=operators)
    assert "Gelu" in fused.cones()
    assert set(plain.cones()) == {"Div", "Erf", "Add", "Mul"}


def test_optimised_graph_is_read_once_and_removed(double: Segment, temporary: Path) -> None:
    """Its file lives until its fingerprint is taken, of the model's outputs only, or as long as the session."""
    read: list[Path] = []

    def fingerprint(file: Path, outputs: Sequence[str], _: Mapping[str, Any]) -> dict[str, int]:
        read.append(file)
        return dict.fromkeys(outputs, 1)

    session = Session(double, Opening(), exact=False, fingerprint=fingerprint)
    assert session.keeps_optimised
    assert len(list(temporary.iterdir())) == 1
    assert session.cones() == session.cones() == {"y": 1}
    assert len(read) == 1
    assert list(temporary.iterdir()) == []
    Session(double, Opening(), exact=False, fingerprint=lambda *_: {})
    with pytest.raises(ValueError, match="without keep_optimised"):
        Session(double, Opening(), exact=False).cones()


def test_optimised_graph_above_2_gib(external: Segment, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What protobuf cannot hold is written with its weights beside it, and the session opens all the same."""
    real = onnxruntime.InferenceSession

    def limited(graph: bytes, options: Any, **rest: Any) -> Any:
        try:
            options.get_session_config_entry("session.optimized_model_external_initializers_file_name")
        except RuntimeError:
            raise RuntimeError("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf serialization failed.") from None
        return real(graph, options, **rest)

    def fingerprint(file: Path, *_: Any) -> dict[str, int]:
        return {item.name: item.stat().st_size for item in file.parent.iterdir()}

    monkeypatch.setattr(onnxruntime, "InferenceSession", limited)
    session: Any = Session(external, Opening(), exact=False, fingerprint=fingerprint)
    assert set(session.cones()) >= {"optimised.onnx"}
    assert session.run(X, ["y"])["y"].tolist() == [2, 2]
    with pytest.raises(ModelInvalidError, match="Protobuf serialization failed"):
        Session(external, Opening(), exact=False)


def test_application_options_serve_every_session(external: Segment, double: Segment, temporary: Path) -> None:
    """They are used as they are: what one session needs besides does not stay on them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    opening = Opening(session_options=options)
    first: Any = Session(external, opening, exact=True, fingerprint=lambda *_: {})
    second: Any = Session(double, opening, exact=False)
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert options.optimized_model_filepath == ""
    assert options.get_session_config_entry(DATA_FOLDER) == ""
    for session in (first, second):
        used = session._session.get_session_options()
        assert not used.enable_mem_pattern
        assert used.get_session_config_entry("session.intra_op.allow_spinning") == "0"
        assert session.run(X, ["y"])["y"].tolist() == [2, 2]
    first.cones()


def test_options_that_cannot_serve() -> None:
    """Other objects, and options with providers of their own, are refused at once."""
    with pytest.raises(TypeError, match=r"must be an onnxruntime\.SessionOptions, not dict"):
        Opening(session_options={})
    options = onnxruntime.SessionOptions()
    options.set_provider_selection_policy(onnxruntime.OrtExecutionProviderDevicePolicy.PREFER_CPU)
    with pytest.raises(TypeError, match="providers= instead"):
        Opening(session_options=options)
