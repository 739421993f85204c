"""Inputs, checked before they are sent."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import onnxscope
from onnxscope import inputs
from onnxscope.v1 import tensor_pb2 as pb


class Tensor:
    """What arrays of other libraries look like."""

    def __array__(self, dtype=None, copy=None):
        return np.ones((2, 3), np.float32)


@pytest.fixture
def model(make_model, make_spec):
    """A model of two inputs."""
    return make_model(make_spec("x"), make_spec("n", pb.DATA_TYPE_INT64, (1,)))


def one(make_model, make_spec, data_type, shape=None):
    """A model of one input."""
    return make_model(make_spec("x", data_type, shape))


def test_good_inputs_pass_by_reference(model):
    """An array of the right dtype is not copied."""
    x = np.ones((2, 3), np.float32)
    checked = inputs.check({"x": x, "n": np.array([1])}, model)
    assert checked["x"] is x


def test_python_numbers_get_the_declared_dtype(model):
    """Lists and scalars are written without a thought of dtypes."""
    checked = inputs.check({"x": [[1, 2.5, 3]], "n": [7]}, model)
    assert checked["x"].dtype == np.float32
    assert checked["n"].dtype == np.int64


@pytest.mark.parametrize("data_type", [pb.DATA_TYPE_BFLOAT16, pb.DATA_TYPE_FLOAT16, pb.DATA_TYPE_INT4])
def test_python_numbers_become_types_that_numpy_lacks(make_model, make_spec, data_type):
    """Small types too, from the same list."""
    checked = inputs.check([[1, 2], [3, 4]], one(make_model, make_spec, data_type))
    assert checked["x"].astype(int).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.ones((2, 3)), r"float64; the model takes float32: convert it with \.astype\('float32'\)"),
        (np.ones((2, 3), np.int64), r"int64; the model takes float32"),
        (np.ones((2, 3), ml_dtypes.bfloat16), r"bfloat16; the model takes float32"),
        ([np.ones(3), np.ones(3)], r"float64; the model takes float32"),
        (np.float64(1.0), r"float64"),
        (np.ones(3, np.float32), r"\[3\]; the model takes \[batch, 3\], 2 axes"),
        (np.ones((2, 4), np.float32), r"\[2, 4\]; the model takes \[batch, 3\]"),
        ([["a", "b", "c"]], "holds text"),
        ([[1, 2], [3]], "cannot be read as an array"),
        ([[1e300, 0, 0]], "beyond the range of float32"),
        (None, "is None"),
        (object(), "float32"),
    ],
)
def test_what_does_not_fit_is_told_with_what_does(model, x, text):
    """The message says what is wrong, and lists the inputs."""
    with pytest.raises(onnxscope.InputMismatchError, match=text) as caught:
        inputs.check({"x": x, "n": [1]}, model)
    assert "x: float32[batch, 3]" in str(caught.value)
    assert "n: int64[1]" in str(caught.value)
    assert caught.value.metadata["input"] == "x"
    assert caught.value.metadata["expected"] == "x: float32[batch, 3]"


@pytest.mark.parametrize("n", [[1.5], [2**70], [True], "1"])
def test_python_numbers_are_never_bent(model, n):
    """A float is no integer, and nothing overflows silently."""
    with pytest.raises(onnxscope.InputMismatchError, match="'n'"):
        inputs.check({"x": [[1, 2, 3]], "n": n}, model)


def test_small_integers_have_a_range(make_model, make_spec):
    """300 is no uint8."""
    with pytest.raises(onnxscope.InputMismatchError, match="beyond the range of uint8"):
        inputs.check([300], one(make_model, make_spec, pb.DATA_TYPE_UINT8))


def test_names_are_checked(model):
    """A wrong name and a missing one are named."""
    with pytest.raises(onnxscope.InputMismatchError, match="no input 'y'"):
        inputs.check({"y": [[1, 2, 3]]}, model)
    with pytest.raises(onnxscope.InputMismatchError, match="'n' is missing"):
        inputs.check({"x": [[1, 2, 3]]}, model)
    assert "n" not in inputs.check({"x": [[1, 2, 3]]}, model, may_lack=["n"])


def test_a_bare_array_is_the_only_input(model, make_model, make_spec):
    """With several inputs a dict is wanted; optional ones don't count."""
    single = make_model(make_spec("x"), optional_inputs=[make_spec("scale", shape=())])
    assert list(inputs.check([[1, 2, 3]], single)) == ["x"]
    assert list(inputs.check({"x": [[1, 2, 3]], "scale": 2.0}, single)) == ["x", "scale"]
    assert list(inputs.check({"x": [[1, 2, 3]], "scale": None}, single)) == ["x"]
    with pytest.raises(onnxscope.InputMismatchError, match="takes 2 inputs: give a dict"):
        inputs.check([[1, 2, 3]], model)


def test_arrays_of_other_libraries_are_arrays(make_model, make_spec):
    """Whatever numpy can read."""
    assert inputs.check(Tensor(), make_model(make_spec("x")))["x"].shape == (2, 3)


def test_byte_order_and_layout_are_settled_here(make_model, make_spec):
    """Big-endian and strided arrays leave native and contiguous; a scalar stays one."""
    checked = inputs.check(np.ones((6, 3), ">f4")[::2], make_model(make_spec("x")))["x"]
    assert checked.dtype.isnative
    assert checked.flags.c_contiguous
    assert inputs.check(np.float32(3), make_model(make_spec("x", shape=())))["x"].shape == ()


@pytest.mark.parametrize("text", [["a", "é"], np.array(["a", "é"]), np.array(["a", "é"], object), [b"a", "é".encode()]])
def test_strings_come_as_numpy_has_them(make_model, make_spec, text):
    """Lists, U, O and bytes arrays all become object arrays of str."""
    checked = inputs.check(text, one(make_model, make_spec, pb.DATA_TYPE_STRING))["x"]
    assert checked.dtype == object
    assert checked.tolist() == ["a", "é"]


@pytest.mark.parametrize("text", [[1], np.array([1]), np.array([None], object), [b"\xff"]])
def test_what_is_no_text_is_refused(make_model, make_spec, text):
    """Numbers, None and bytes that are no UTF-8 are not sent as strings."""
    with pytest.raises(onnxscope.InputMismatchError, match="strings"):
        inputs.check(text, one(make_model, make_spec, pb.DATA_TYPE_STRING))


def test_sequences_maps_and_optionals(make_model):
    """Lists, dicts and None go in where the model declares them, and only there."""
    float_type = pb.ValueType(tensor=pb.TensorType(data_type=pb.DATA_TYPE_FLOAT32))
    declared = {
        "s": pb.ValueType(sequence=pb.SequenceType(element=float_type)),
        "m": pb.ValueType(map=pb.MapType(key=pb.DATA_TYPE_INT64, value=float_type)),
        "o": pb.ValueType(optional=pb.OptionalType(element=float_type)),
        "u": pb.ValueType(),
    }
    model = make_model(*(pb.ValueSpec(name=name, type=type_) for name, type_ in declared.items()))
    checked = inputs.check({"s": [[1.0], [2.0, 3.0]], "m": {1: 0.5}, "o": None, "u": [1]}, model)
    assert [item.dtype for item in checked["s"]] == [np.float32, np.float32]
    assert checked["m"] == {1: np.float32(0.5)}
    assert checked["m"][1].dtype == np.float32
    assert checked["o"] is None
    assert "o" not in inputs.check({"s": [], "m": {}, "u": 1}, model)
    for wrong in ({"s": np.ones(3)}, {"m": [1]}, {"m": {"a": 1.0}}, {"o": [["a"]]}):
        with pytest.raises(onnxscope.InputMismatchError):
            inputs.check({"s": [], "m": {}, "u": 1} | wrong, model)


def test_a_model_without_inputs_takes_an_empty_dict(make_model):
    """And says so when it is given something."""
    constant = make_model()
    del constant.inputs[:]
    assert inputs.check({}, constant) == {}
    with pytest.raises(onnxscope.InputMismatchError, match="none"):
        inputs.check({"x": 1}, constant)
