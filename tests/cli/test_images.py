"""Images as inputs: prepared as said, never guessed."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from onnxscope.cli.console import CommandError
from onnxscope.cli.images import Preparation, read
from onnxscope.results import TensorSpec

COLOUR = TensorSpec("x", "float32", ("n", 3, 2, 2))
SAID = Preparation(resize="none", layout="nchw", scale="1/255", mean="0", std="1")


@pytest.fixture
def image(tmp_path):
    """Writes pixels `[height, width]` or `[height, width, channel]` to a PNG file; gives its path."""

    def write(pixels, name="a.png"):
        Image.fromarray(np.asarray(pixels, np.uint8)).save(tmp_path / name)
        return tmp_path / name

    return write


def test_pixels_are_scaled_shifted_and_divided_by_channel(image):
    """(pixel * scale - mean) / std, channels first, a batch of one row."""
    pixels = np.arange(12).reshape(2, 2, 3) * 20
    said = dataclasses.replace(SAID, mean="0.1,0.2,0.3", std="0.5,1,2")
    got = read(image(pixels), COLOUR, said)
    wanted = ((pixels / 255 - [0.1, 0.2, 0.3]) / [0.5, 1, 2]).transpose(2, 0, 1)[np.newaxis]
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_channels_may_come_last(image):
    """With --layout nhwc."""
    spec = TensorSpec("x", "float32", (1, 2, 2, 3))
    said = dataclasses.replace(SAID, layout="nhwc")
    assert read(image(np.zeros((2, 2, 3))), spec, said).shape == (1, 2, 2, 3)


def test_resize_takes_height_first(image):
    """4x2 is four high and two wide."""
    spec = TensorSpec("x", "float32", (1, 1, 4, 2))
    said = dataclasses.replace(SAID, resize="4x2")
    assert read(image(np.zeros((8, 8))), spec, said).shape == (1, 1, 4, 2)


@pytest.mark.parametrize("name", ["resize", "layout", "scale", "mean", "std"])
def test_what_is_not_said_is_asked_for(image, name):
    """The message names the option that is missing."""
    with pytest.raises(CommandError, match=f"--{name} missing"):
        read(image(np.zeros((2, 2, 3))), COLOUR, dataclasses.replace(SAID, **{name: None}))


def test_grey_and_colour_are_converted_only_when_told(image):
    """The message names the option."""
    grey = TensorSpec("x", "float32", (1, 1, 2, 2))
    with pytest.raises(CommandError, match="--rgb converts it"):
        read(image(np.zeros((2, 2))), COLOUR, SAID)
    with pytest.raises(CommandError, match="--grayscale converts it"):
        read(image(np.zeros((2, 2, 3))), grey, SAID)
    assert read(image(np.zeros((2, 2))), COLOUR, dataclasses.replace(SAID, mode="RGB")).shape == (1, 3, 2, 2)
    assert read(image(np.zeros((2, 2, 3))), grey, dataclasses.replace(SAID, mode="L")).shape == (1, 1, 2, 2)


def test_a_layout_that_does_not_fit_is_suspected(image):
    """Three channels last, and the caller said first."""
    with pytest.raises(CommandError, match="is the layout nhwc"):
        read(image(np.zeros((2, 2, 3))), TensorSpec("x", "float32", (1, 2, 2, 3)), SAID)


def test_whole_numbers_stay_whole(image):
    """A uint8 input takes pixels as they are, and nothing that would be rounded."""
    spec = TensorSpec("x", "uint8", (1, 1, 2, 2))
    got = read(image([[0, 255], [7, 8]]), spec, dataclasses.replace(SAID, scale="1"))
    assert got.dtype == np.uint8
    assert got.tolist() == [[[[0, 255], [7, 8]]]]
    with pytest.raises(CommandError, match="whole numbers"):
        read(image([[0, 255], [7, 8]]), spec, SAID)


def test_the_inputs_own_dtype_is_kept(image):
    """bfloat16 comes from ml_dtypes."""
    spec = TensorSpec("x", "bfloat16", (1, 1, 2, 2))
    assert read(image(np.zeros((2, 2))), spec, SAID).dtype.name == "bfloat16"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "chw"}, "nchw or nhwc"),
        ({"resize": "8"}, "HEIGHTxWIDTH"),
        ({"resize": "0x4"}, "HEIGHTxWIDTH"),
        ({"scale": "1/0"}, "--scale is a number"),
        ({"scale": "big"}, "--scale is a number"),
        ({"mean": "1,2"}, "give one or 3"),
        ({"std": "0"}, "must not be zero"),
    ],
)
def test_an_option_without_meaning_is_refused(image, change, message):
    """And says what it takes."""
    with pytest.raises(CommandError, match=message):
        read(image(np.zeros((2, 2, 3))), COLOUR, dataclasses.replace(SAID, **change))


def test_sixteen_bit_pixels_are_not_squeezed(tmp_path):
    """Pillow would clip them at 255."""
    Image.fromarray(np.full((2, 2), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(CommandError, match="more than 8 bits"):
        read(tmp_path / "deep.png", COLOUR, SAID)


def test_files_that_are_no_images_are_refused(tmp_path):
    """Missing, or something else."""
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(CommandError, match="cannot be read as an image"):
        read(tmp_path / "a.png", COLOUR, SAID)
    with pytest.raises(CommandError, match="there is no file"):
        read(tmp_path / "b.png", COLOUR, SAID)


def test_an_input_that_is_no_image_is_refused(image):
    """A matrix has no channels."""
    with pytest.raises(CommandError, match="2 axes"):
        read(image(np.zeros((2, 2))), TensorSpec("x", "float32", (1, 4)), SAID)
