"""Data sets as files: what are rows, what are labels, and what an error says."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from onnxscope.cli import labelled
from onnxscope.cli.console import CommandError
from onnxscope.results import TensorSpec

IMAGE = TensorSpec("image", "float32", ("batch", 1, 2, 2))
ROWS = np.arange(12, dtype=np.float32).reshape(3, 1, 2, 2)
NONE = {"labels": None, "groups": None}


def test_an_archive_holds_rows_and_labels(tmp_path):
    """By their names; what is left is the model's only input, whatever it is called."""
    for name, key in (("a.npz", "image"), ("b.npz", "X"), ("c.safetensors", "image")):
        arrays = {key: ROWS, "y": np.arange(3), "g": np.zeros(3, np.int64)}
        write = np.savez if name.endswith(".npz") else lambda path, **arrays: save_file(arrays, path)
        write(tmp_path / name, **arrays)
        found = labelled.read([str(tmp_path / name)], [IMAGE], {"labels": "y", "groups": "g"})
        np.testing.assert_array_equal(found.values["image"], ROWS)
        np.testing.assert_array_equal(found.beside["labels"], [0, 1, 2])
        np.testing.assert_array_equal(found.beside["groups"], [0, 0, 0])


def test_labels_may_have_a_file_of_their_own(tmp_path):
    """One array, JSON, or one of several by name."""
    np.save(tmp_path / "x.npy", ROWS)
    np.save(tmp_path / "y.npy", np.arange(3))
    np.savez(tmp_path / "many.npz", a=np.arange(3), b=np.ones(3))
    (tmp_path / "y.json").write_text(json.dumps(["a", "b", "a"]))
    for text, expected in (("y.npy", [0, 1, 2]), ("many.npz:b", [1, 1, 1]), ("y.json", ["a", "b", "a"])):
        given = [f"image={tmp_path / 'x.npy'}"]
        found = labelled.read(given, [IMAGE], NONE | {"labels": str(tmp_path / text)})
        assert list(found.beside["labels"]) == expected
        assert found.beside["groups"] is None
        np.testing.assert_array_equal(found.values["image"], ROWS)


def test_a_csv_file_is_rows_in_the_declared_shape(tmp_path):
    """Columns in their order; a column may be the labels, as text too."""
    path = tmp_path / "rows.csv"
    path.write_text("p0,p1,label,p2,p3\n0,1,cat,2,3\n4,5,dog,6,7.5\n")
    found = labelled.read([str(path)], [IMAGE], {"labels": "label"})
    assert found.values["image"].dtype == np.float32
    np.testing.assert_array_equal(found.values["image"], [[[[0, 1], [2, 3]]], [[[4, 5], [6, 7.5]]]])
    assert list(found.beside["labels"]) == ["cat", "dog"]
    specs = [TensorSpec("a", "float32", ("batch",)), TensorSpec("b", "int64", ("batch",))]
    path.write_text("a,b,y\n1,2,0\n3,4,1\n")
    found = labelled.read([str(path)], specs, {"labels": "y"})
    assert found.values["a"].dtype == np.float32
    np.testing.assert_array_equal(found.values["b"], [2, 4])


def test_labels_named_with_the_file_of_the_rows_are_no_rows(tmp_path, monkeypatch):
    """A column or an array of a file that --input names is taken out of it, however the file is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("a,b,y\n1,2,0\n3,4,1\n")
    np.savez(tmp_path / "rows.npz", X=np.array([[1, 2], [3, 4]], np.float32), y=np.arange(2))
    spec = TensorSpec("x", "float32", ("batch", None))
    for name in ("rows.csv", "rows.npz"):
        for file in (name, f"./{name}", str(tmp_path / name)):
            found = labelled.read([name], [spec], {"labels": f"{file}:y"})
            np.testing.assert_array_equal(found.values["x"], [[1, 2], [3, 4]])
            assert list(found.beside["labels"]) == [0, 1]


@pytest.mark.parametrize(
    ("text", "specs", "labels", "match"),
    [
        ("a,b\n1,2\n", [IMAGE], "z", "no such file, nor an array or a column of that name; --input has 'a', 'b'"),
        ("a,b\n1\n", [IMAGE], "b", "row 2 has 1 cells, and the header 2"),
        ("a,b\n", [IMAGE], "b", "rows below it"),
        ("a,b,c\n1,x,2\n", [IMAGE], "c", "'b' is text"),
        ("a,b\n1,2\n", [IMAGE, TensorSpec("k", "float32", ())], "b", "'a', which is no input of the model"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, text, specs, labels, match):
    """With the name of the column, or the number of the row."""
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(CommandError, match=match):
        labelled.read([str(tmp_path / "rows.csv")], specs, {"labels": labels})


def test_several_arrays_that_may_be_the_input_are_not_guessed(tmp_path):
    """The error names them, and the input."""
    np.savez(tmp_path / "a.npz", X=ROWS, Z=ROWS, y=np.arange(3))
    np.save(tmp_path / "x.npy", ROWS)
    with pytest.raises(CommandError, match="'X', 'Z', and the model takes image: float32"):
        labelled.read([str(tmp_path / "a.npz")], [IMAGE], {"labels": "y"})
    with pytest.raises(CommandError, match="say which of 'X', 'Z', 'y'"):
        labelled.read([f"image={tmp_path / 'x.npy'}"], [IMAGE], {"labels": str(tmp_path / "a.npz")})
    with pytest.raises(CommandError, match="--input NAME=FILE"):
        labelled.read([], [IMAGE], NONE)
