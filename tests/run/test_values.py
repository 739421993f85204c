"""Every data type and every kind of value, into a run and out of it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TypeProto, helper, numpy_helper

from onnxscope_server.domain import DataType, Segment
from onnxscope_server.errors import (
    InputMismatchError,
    ModelInvalidError,
    RunFailedError,
    ValueInvalidError,
)
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.session import Session
from onnxscope_server.run.values import DTYPES

Make = Callable[..., Any]
Tensor = Callable[..., TypeProto]

_COMPLEX = (DataType.COMPLEX64, DataType.COMPLEX128)
_PACKED = (DataType.INT4, DataType.UINT4, DataType.INT2, DataType.UINT2)
# onnxruntime computes nothing with these, or only casts them
_NO_IDENTITY = (*_PACKED, DataType.FLOAT4E2M1, DataType.FLOAT8E8M0)


def _sample(data_type: DataType, shape: tuple[int, ...]) -> Any:
    count = int(np.prod(shape))
    if data_type is DataType.STRING:
        texts = np.array([["", "ü", "a\0b"][index % 3] for index in range(count)], object)
        return texts.reshape(shape)
    bits = 2 if data_type in (DataType.UINT2, DataType.INT2) else 4
    if data_type in (*_PACKED, DataType.FLOAT4E2M1):
        raw = np.arange(count, dtype=np.uint8) % np.uint8(1 << bits)
        return raw.view(DTYPES[data_type]).reshape(shape)
    numbers: Any = np.arange(count) % 7
    # a power of two is all that float8e8m0 holds
    numbers = 2.0**numbers if data_type is DataType.FLOAT8E8M0 else numbers
    return numbers.astype(DTYPES[data_type]).reshape(shape)


@pytest.mark.parametrize("shape", [(3, 5), (), (0, 2), (1,)], ids=str)
@pytest.mark.parametrize("data_type", DataType, ids=lambda kind: kind.name.lower())
def test_every_type_passes_through(
    make_session: Make, tensor: Tensor, data_type: DataType, shape: tuple[int, ...]
) -> None:
    """An input that is the output comes back with its own dtype, shape and bits; complex is refused."""
    kind = tensor(data_type, shape)
    if data_type in _COMPLEX:
        with pytest.raises(ModelInvalidError, match="is not currently registered or supported"):
            make_session([], {"x": kind}, {"x": kind})
        return
    session = make_session([], {"x": kind}, {"x": kind})
    given = _sample(data_type, shape)
    got = session.run({"x": given}, ["x"])["x"]
    assert (got.dtype, got.shape) == (given.dtype, shape)
    assert got.tolist() == given.tolist()
    assert not np.may_share_memory(got, given)


@pytest.mark.parametrize("data_type", DataType, ids=lambda kind: kind.name.lower())
def test_every_type_is_computed_or_refused(make_session: Make, tensor: Tensor, data_type: DataType) -> None:
    """Identity gives the value in its own dtype, or the load is refused with a text that names the trouble."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    parts = nodes, {"x": tensor(data_type, ["n"])}, {"y": None}
    if data_type in (*_COMPLEX, *_NO_IDENTITY):
        expected = "not currently registered" if data_type in _COMPLEX else "Could not find an implementation"
        with pytest.raises(ModelInvalidError, match=expected):
            make_session(*parts)
        return
    given = _sample(data_type, (5,))
    got = make_session(*parts).run({"x": given}, ["y"])["y"]
    assert got.dtype == given.dtype
    assert got.tolist() == given.tolist()


@pytest.mark.parametrize("data_type", _PACKED, ids=lambda kind: kind.name.lower())
def test_packed_types_mean_what_onnxruntime_means(make_session: Make, tensor: Tensor, data_type: DataType) -> None:
    """Cast of onnxruntime itself reads the same numbers from what is packed, and writes them so that they unpack."""
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0]),
    ]
    given = _sample(data_type, (3, 5))
    got = make_session(nodes, {"x": tensor(data_type, (3, 5))}, {"wide": None, "y": None}).run(
        {"x": given}, ["wide", "y"]
    )
    assert np.array_equal(got["wide"], given.astype(np.float32))
    assert np.array_equal(got["y"].astype(np.float32), given.astype(np.float32).T)


def test_special_numbers_keep_their_bits(make_session: Make, tensor: Tensor) -> None:
    """NaN with a payload, infinities and negative zero of bfloat16 go through untouched."""
    given = np.array([0x7FC1, 0xFFA5, 0x7F80, 0xFF80, 0x8000, 0x0001], np.uint16).view(ml_dtypes.bfloat16)
    kind = tensor(DataType.BFLOAT16, ["n"])
    session = make_session([helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, {"y": kind})
    got = session.run({"x": given}, ["y"])["y"]
    assert got.view(np.uint16).tolist() == given.view(np.uint16).tolist()


@pytest.mark.parametrize("data_type", [DataType.FLOAT32, DataType.BFLOAT16], ids=lambda kind: kind.name.lower())
def test_output_outlives_its_session(make_session: Make, tensor: Tensor, data_type: DataType) -> None:
    """An array keeps its memory when session and run are gone."""
    kind = tensor(data_type, ["n"])
    session = make_session([helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, {"y": kind})
    got = session.run({"x": np.ones(1 << 20, DTYPES[data_type])}, ["y"])["y"]
    del session
    gc.collect()
    others = [np.zeros(1 << 20, np.float32) for _ in range(4)]
    assert got.flags.writeable
    assert bool((got == 1).all())
    assert len(others) == 4


@pytest.mark.parametrize("exact", [True, False])
def test_results_share_no_memory_with_weights(make_session: Make, tensor: Tensor, *, exact: bool) -> None:
    """Writing into a captured weight changes neither the session, nor a later run, nor another result."""
    weight = numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    nodes = [
        helper.make_node("Identity", ["w"], ["y"]),
        helper.make_node("Identity", ["w"], ["z"]),
        helper.make_node("Add", ["x", "w"], ["sum"]),
    ]
    kind = tensor(DataType.FLOAT32, [4])
    names = ["w", "y", "z", "sum"]
    session = make_session(nodes, {"x": kind}, dict.fromkeys(names), [weight], exact=exact)
    feeds = {"x": np.zeros(4, np.float32)}
    first = session.run(feeds, names)
    for name in names:
        array = first[name]
        array[:] = 99
        untouched = [other for other in names[names.index(name) + 1 :] if np.any(first[other] == 99)]
        assert untouched == []
    second = session.run(feeds, names)
    assert all(np.array_equal(second[name], np.arange(4)) for name in names)


def test_inputs_need_not_be_contiguous_native_or_writable(make_session: Make, tensor: Tensor) -> None:
    """A transposed, a big-endian and a read-only array mean the numbers that they hold."""
    kind = tensor(DataType.FLOAT32, ["a", "b"])
    session = make_session([helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, {"y": kind})
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    frozen = array.copy()
    frozen.flags.writeable = False
    for given in (array.T, array.astype(">f4"), frozen, array[:, ::-1], np.broadcast_to(array[:1], (4, 3))):
        assert np.array_equal(session.run({"x": given}, ["y"])["y"], given)


def test_sequences_of_every_kind(make_session: Make) -> None:
    """Lists of arrays, of text, and none at all go in and come out, each item with memory of its own."""
    for elem, items in (
        (DataType.FLOAT32, [np.zeros(2, np.float32), np.ones((2, 0, 3), np.float32), np.array(1, np.float32)]),
        (DataType.STRING, [np.array(["a", "ü"], object), np.array([], object)]),
        (DataType.INT64, []),
    ):
        kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(int(elem), None))
        nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["x"], ["z"])]
        got = make_session(nodes, {"x": kind}, {"y": kind, "z": None}).run({"x": items}, ["y", "z"])
        for name in ("y", "z"):
            values = got[name]
            assert isinstance(values, list)
            assert [value.tolist() for value in values] == [item.tolist() for item in items]
            assert [value.shape for value in values] == [item.shape for item in items]
        if items and elem is DataType.FLOAT32:
            got["y"][0][:] = 7
            assert got["z"][0].tolist() == [0.0, 0.0]


def test_sequence_beside_bfloat16(make_session: Make, tensor: Tensor) -> None:
    """A run may return a list and a type that `session.run` lacks at the same time."""
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["list"]),
        helper.make_node("Cast", ["x"], ["half"], to=onnx.TensorProto.BFLOAT16),
        helper.make_node("Cast", ["x"], ["text"], to=onnx.TensorProto.STRING),
    ]
    names = ["list", "half", "text"]
    session = make_session(nodes, {"x": tensor(DataType.FLOAT32, ["n"])}, dict.fromkeys(names))
    got = session.run({"x": np.array([1, 2], np.float32)}, names)
    assert [item.tolist() for item in got["list"]] == [[1, 2], [1, 2]]
    assert got["half"].dtype == ml_dtypes.bfloat16
    assert got["text"].tolist() == ["1", "2"]


def test_maps(make_session: Make, tensor: Tensor) -> None:
    """A dict goes in, and a list of dicts comes out."""
    kind = helper.make_map_type_proto(onnx.TensorProto.STRING, tensor(DataType.FLOAT32, []))
    node = helper.make_node("DictVectorizer", ["x"], ["y"], domain="ai.onnx.ml", string_vocabulary=["a", "b"])
    session = make_session([node], {"x": kind}, {"y": None})
    assert session.run({"x": {"b": np.float32(2.5)}}, ["y"])["y"].tolist() == [[0.0, 2.5]]
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[7, 8])
    session = make_session([node], {"x": tensor(DataType.FLOAT32, ["n", 2])}, {"y": None})
    got = session.run({"x": np.eye(2, dtype=np.float32)}, ["y"])["y"]
    assert got == [{7: 1.0, 8: 0.0}, {7: 0.0, 8: 1.0}]


@pytest.mark.parametrize("kind_of", ["tensor", "sequence", "text"])
def test_optionals(make_session: Make, tensor: Tensor, kind_of: str) -> None:
    """An optional that is there is its value; one that is not is None, given or left out, in and out."""
    inner = tensor(DataType.STRING if kind_of == "text" else DataType.FLOAT32, None)
    inner = helper.make_sequence_type_proto(inner) if kind_of == "sequence" else inner
    kind = helper.make_optional_type_proto(inner)
    session = make_session([helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, {"y": kind})
    array = np.array(["a"], object) if kind_of == "text" else np.ones(1, np.float32)
    got = session.run({"x": [array] if kind_of == "sequence" else array}, ["y"])["y"]
    assert (got[0] if isinstance(got, list) else got).tolist() == array.tolist()
    assert session.run({"x": None}, ["y"]) == {"y": None}
    assert session.run({}, ["y"]) == {"y": None}


def test_sparse_is_dense_outside(make_session: Make) -> None:
    """A sparse input is given, and a sparse output comes, as the array that it stands for."""
    kind = TypeProto()
    kind.sparse_tensor_type.elem_type = onnx.TensorProto.FLOAT
    for size in (2, 3):
        kind.sparse_tensor_type.shape.dim.add().dim_value = size
    given = np.array([[0, 1, 0], [2, 0, 3]], np.float32)
    assert np.array_equal(make_session([], {"x": kind}, {"x": kind}).run({"x": given}, ["x"])["x"], given)


def test_text_that_is_not_utf8_is_an_error(make_session: Make, tensor: Tensor) -> None:
    """Any bytes are text to onnxruntime; the caller gets an error, not other text."""
    broken = onnx.TensorProto(name="w", data_type=onnx.TensorProto.STRING, dims=[1], string_data=[b"a\xff"])
    session = make_session([helper.make_node("Identity", ["w"], ["y"])], {}, {"y": None}, [broken])
    with pytest.raises(RunFailedError, match="'y' holds text that is not UTF-8"):
        session.run({}, ["y"])


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (np.ones(2), "float64"),
        (np.array(["1"], object), "object"),
        (np.ones(2, np.complex64), "complex64"),
        ([np.ones(2, np.float32)], "list"),
        ({1: 2.0}, "dict"),
        (1.0, "float"),
        ("1", "str"),
    ],
)
def test_wrong_kind_is_refused(make_session: Make, tensor: Tensor, value: Any, got: str) -> None:
    """A number input takes arrays of its dtype, and nothing is converted behind the caller's back."""
    kind = tensor(DataType.FLOAT32, None)
    session = make_session([helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, {"y": kind})
    with pytest.raises(InputMismatchError) as raised:
        session.run({"x": value}, ["y"])
    assert raised.value.metadata == {"input": "x", "expected": "float32", "got": got}


def test_wrong_items_are_refused(make_session: Make, tensor: Tensor) -> None:
    """Sequences and maps are checked to their items, text to its elements."""
    floats = tensor(DataType.FLOAT32, None)
    sequence = make_session([], {"x": helper.make_sequence_type_proto(floats)}, {"x": None})
    wrong: list[Any] = [[np.ones(1)], [None], [[]], [{}], np.ones(1, np.float32), {}]
    for bad in wrong:
        with pytest.raises(InputMismatchError):
            sequence.run({"x": bad}, ["x"])
    mapping = make_session([], {"x": helper.make_map_type_proto(onnx.TensorProto.INT64, floats)}, {"x": None})
    with pytest.raises(InputMismatchError, match="empty map"):
        mapping.run({"x": {}}, ["x"])
    with pytest.raises(RunFailedError, match="cannot be linked to C type"):
        mapping.run({"x": {1: "a"}}, ["x"])
    text = make_session([], {"x": tensor(DataType.STRING, None)}, {"x": None})
    with pytest.raises(ValueInvalidError, match="holds int among its texts"):
        text.run({"x": np.array(["a", 1], object)}, ["x"])
    assert text.run({"x": np.array(["a", "bc"])}, ["x"])["x"].tolist() == ["a", "bc"]


def test_text_in_and_packed_out_says_why_not(make_segment: Callable[..., Segment], tensor: Tensor) -> None:
    """No interface of onnxruntime does both at once; the error says so, and the rest of the run works."""
    nodes = [
        helper.make_node("Identity", ["x"], ["t"]),
        helper.make_node("Cast", ["n"], ["half"], to=onnx.TensorProto.BFLOAT16),
    ]
    inputs = {"x": tensor(DataType.STRING, None), "n": tensor(DataType.FLOAT32, None)}
    segment = make_segment(nodes, inputs, {"t": None, "half": None, "n": None})
    session: Any = Session(segment, Opening(intra_op_threads=1), exact=True)
    feeds = {"x": np.array("a", object), "n": np.ones(1, np.float32)}
    with pytest.raises(RunFailedError, match="'half' cannot be read"):
        session.run(feeds, ["t", "half"])
    got = session.run(feeds, ["t", "n"])
    assert got["t"].tolist() == "a"
    assert not np.may_share_memory(got["n"], feeds["n"])
