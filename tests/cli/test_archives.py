"""Files of named arrays: what goes in comes out, or is refused with a way out."""

import json

import ml_dtypes
import numpy as np
import pytest

from onnxscope.cli import archives
from onnxscope.cli.console import CommandError
from onnxscope.v1.codec import DTYPES

NAMES = ["/block.0/Relu_output_0", 'odd;"name"@ ', "onnx::Relu_8", "../up"]
NUMPY_DTYPES = [dtype for dtype in DTYPES.values() if dtype.isbuiltin == 1 and dtype.kind != "O"]
OTHER_DTYPES = [dtype for dtype in DTYPES.values() if dtype.isbuiltin != 1]


def same(left, right):
    """Says whether two arrays have one dtype, one shape and the same bytes."""
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_any_name_and_shape_survives(tmp_path, suffix):
    """Slashes, quotes, dots; scalars, empty arrays, and views that are not contiguous."""
    arrays = dict(
        zip(
            NAMES,
            [
                np.float32(1.5).reshape(()),
                np.zeros((0, 3)),
                np.arange(6).reshape(2, 3).T,
                np.array([np.nan, np.inf], np.float32),
            ],
            strict=True,
        )
    )
    archives.save(tmp_path / f"a{suffix}", arrays)
    loaded = archives.load(tmp_path / f"a{suffix}")
    assert sorted(loaded) == sorted(NAMES)
    assert all(same(loaded[name], arrays[name]) for name in NAMES)


@pytest.mark.parametrize("dtype", NUMPY_DTYPES, ids=str)
def test_npz_keeps_numpys_dtypes(tmp_path, dtype):
    """Bit for bit, and numpy itself can read them without unpickling."""
    array = np.arange(4).astype(dtype)
    archives.save(tmp_path / "a.npz", {"x": array})
    assert same(archives.load(tmp_path / "a.npz")["x"], array)
    assert same(np.load(tmp_path / "a.npz", allow_pickle=False)["x"], array)


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.kind != "O" and d != np.complex128], ids=str)
def test_safetensors_keep_every_dtype(tmp_path, dtype):
    """bfloat16, float8 and int4 included."""
    array = np.array([0, 1, 2, 3] if dtype.name not in ("int2", "uint2") else [0, 1, 1, 0]).astype(dtype)
    archives.save(tmp_path / "a.safetensors", {"x": array})
    assert same(archives.load(tmp_path / "a.safetensors")["x"], array)


def test_int4_can_be_read_by_others_as_int8(tmp_path):
    """Safetensors has no int4: it is widened, and the metadata says what it was."""
    from safetensors import safe_open

    archives.save(tmp_path / "a.safetensors", {"x": np.array([-8, 7]).astype(ml_dtypes.int4)})
    with safe_open(tmp_path / "a.safetensors", framework="np") as file:
        assert file.get_tensor("x").dtype == np.int8
        assert file.get_tensor("x").tolist() == [-8, 7]
        assert json.loads(file.metadata()["onnxscope.dtypes"]) == {"x": "int4"}


@pytest.mark.parametrize("dtype", OTHER_DTYPES, ids=str)
def test_npz_refuses_what_it_would_degrade(tmp_path, dtype):
    """Numpy would write raw bytes; the message names the format that works, and no file is left."""
    with pytest.raises(CommandError, match=r"\.safetensors"):
        archives.save(tmp_path / "a.npz", {"x": np.zeros(2, dtype)})
    assert list(tmp_path.iterdir()) == []


def test_strings_go_into_npz_without_pickle(tmp_path):
    """As numpy's own text."""
    archives.save(tmp_path / "a.npz", {"x": np.array(["été", ""], object)})
    assert np.load(tmp_path / "a.npz", allow_pickle=False)["x"].tolist() == ["été", ""]


def test_strings_that_numpy_would_cut_are_refused(tmp_path):
    """A zero character at the end is lost in numpy's text."""
    with pytest.raises(CommandError, match="zero character"):
        archives.save(tmp_path / "a.npz", {"x": np.array(["a\0"], object)})


@pytest.mark.parametrize("array", [np.array(["a"], object), np.zeros(1, np.complex128)], ids=["text", "complex128"])
def test_safetensors_refuse_what_they_cannot_hold(tmp_path, array):
    """And name .npz, which can."""
    with pytest.raises(CommandError, match=r"\.npz"):
        archives.save(tmp_path / "a.safetensors", {"x": array})


def test_npy_holds_one_array(tmp_path):
    """Of two it names both, and what to do."""
    archives.save(tmp_path / "a.npy", {"x": np.arange(3)})
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]
    with pytest.raises(CommandError, match=r"x, y.*--no-outputs"):
        archives.save(tmp_path / "a.npy", {"x": np.arange(3), "y": np.arange(3)})


def test_a_failure_keeps_the_file_that_was_there(tmp_path):
    """The second array cannot be written; the first must not have replaced anything."""
    target = tmp_path / "a.npz"
    archives.save(target, {"x": np.arange(3)})
    with pytest.raises(CommandError):
        archives.save(target, {"x": np.arange(9), "y": np.zeros(2, ml_dtypes.bfloat16)})
    assert archives.load(target)["x"].tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["a.h5", "a", "missing/a.npz"])
def test_a_path_that_cannot_be_written_is_refused_beforehand(tmp_path, name):
    """Before the model runs."""
    with pytest.raises(CommandError):
        archives.check_suffix(tmp_path / name)


def test_a_pickle_is_not_opened(tmp_path):
    """An array of objects in .npy would run code when loaded."""
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(CommandError, match="allow_pickle=False"):
        archives.load(tmp_path / "a.npy")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".json", ".txt"])
def test_garbage_is_refused_with_the_files_name(tmp_path, suffix):
    """Whatever it calls itself."""
    path = tmp_path / f"garbage{suffix}"
    path.write_bytes(b"no such thing")
    with pytest.raises(CommandError, match="garbage"):
        archives.load(path)


def test_json_stays_what_python_makes_of_it(tmp_path):
    """The client gives it the dtype that the model declares."""
    (tmp_path / "a.json").write_text("[[1, 2.5]]")
    assert archives.load(tmp_path / "a.json") == {"": [[1, 2.5]]}


def test_values_that_are_no_arrays_are_taken_apart():
    """Lists by index, dicts into keys and values, nothing for what is absent."""
    value = [np.zeros(1), {"a": 1.0, "b": 2.0}, None]
    parts = dict(archives.named_arrays("y", value))
    assert list(parts) == ["y/0", "y/1/keys", "y/1/values"]
    assert parts["y/1/keys"].tolist() == ["a", "b"]
    assert parts["y/1/values"].tolist() == [1.0, 2.0]
