"""`--input`: what the user gives finds its place."""

import numpy as np
import pytest
from PIL import Image

from onnxscope.cli.console import CommandError
from onnxscope.cli.images import Preparation
from onnxscope.cli.inputs import read
from onnxscope.results import TensorSpec

IMAGE = TensorSpec("image", "float32", ("n", 1, 2, 2))
RATE = TensorSpec("sr", "int64", ())
ODD = TensorSpec("image=2", "float32", ("n",))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Makes the test's folder the current one, with some files in it."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros((2, 1, 2, 2), np.float32))
    np.savez("all.npz", image=np.ones((1, 1, 2, 2), np.float32), sr=np.int64(8000))
    np.savez("two.npz", a=np.zeros(1), b=np.zeros(1))
    np.savez("one.npz", whatever=np.full(3, 7.0))
    return tmp_path


def read_all(given, specs, **options):
    """Reads without any preparation of images."""
    return read(given, specs, Preparation(), **options)


def test_the_only_input_needs_no_name(folder):
    """A bare file is enough."""
    assert read_all(["x.npy"], [IMAGE])["image"].shape == (2, 1, 2, 2)


def test_an_archive_feeds_all_inputs_by_name(folder):
    """Its arrays have their names."""
    got = read_all(["all.npz"], [IMAGE, RATE])
    assert got["image"].sum() == 4
    assert got["sr"] == 8000


def test_an_archive_for_one_input_gives_its_only_array_or_the_one_of_that_name(folder):
    """And is refused where it is not clear which."""
    assert read_all(["image=one.npz"], [IMAGE])["image"].tolist() == [7, 7, 7]
    assert read_all(["image=all.npz", "sr:=1"], [IMAGE, RATE])["image"].sum() == 4
    with pytest.raises(CommandError, match="a, b"):
        read_all(["image=two.npz"], [IMAGE])


def test_json_stands_in_the_command_itself(folder):
    """NAME:=JSON, for scalars above all."""
    assert read_all(["image=x.npy", "sr:=16000"], [IMAGE, RATE])["sr"] == 16000
    with pytest.raises(CommandError, match="not JSON"):
        read_all(["sr:=16k"], [RATE])


def test_names_are_looked_up_not_split(folder):
    """A name may hold the sign itself."""
    got = read_all(["image=2=x.npy", "image=x.npy"], [IMAGE, ODD])
    assert set(got) == {"image", "image=2"}


def test_mistakes_name_what_the_model_takes(folder):
    """An unknown name, no name at all, a stranger in an archive, nothing given."""
    for given in (["imge=x.npy"], ["two.npz"], []):
        with pytest.raises(CommandError, match="image: float32"):
            read_all(given, [IMAGE])
    with pytest.raises(CommandError, match=r"NAME=x\.npy"):
        read_all(["x.npy"], [IMAGE, RATE])


def test_nothing_is_given_twice(folder):
    """Not even by an archive and by name."""
    with pytest.raises(CommandError, match="'sr' is given twice"):
        read_all(["all.npz", "sr:=1"], [IMAGE, RATE])


def test_a_missing_file_is_named(folder):
    """As it was given."""
    with pytest.raises(CommandError, match=r"no file nope\.npy"):
        read_all(["image=nope.npy"], [IMAGE])


def test_dtypes_are_converted_only_when_told(folder):
    """float64 stays float64 without --cast."""
    np.save("f64.npy", np.zeros((1, 1, 2, 2)))
    assert read_all(["f64.npy"], [IMAGE])["image"].dtype == np.float64
    assert read_all(["f64.npy"], [IMAGE], cast=True)["image"].dtype == np.float32
    bfloat16 = TensorSpec("image", "bfloat16", None)
    assert read_all(["f64.npy"], [bfloat16], cast=True)["image"].dtype.name == "bfloat16"


def test_an_image_needs_its_preparation(folder):
    """By its suffix it is known to be one."""
    Image.fromarray(np.zeros((2, 2), np.uint8)).save("a.png")
    with pytest.raises(CommandError, match="--resize, --layout, --scale, --mean, --std missing"):
        read_all(["image=a.png"], [IMAGE])
