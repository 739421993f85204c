"""Pictures of plain arrays."""

import io

import numpy as np
import pytest
from PIL import Image

from onnxscope.show import plots
from onnxscope.show.page import png


def pixels(figure):
    """Returns a figure's picture as RGBA `[height, width, channel]`."""
    return np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGBA"))


def test_a_feature_map_is_red_above_zero_blue_below_and_white_at_zero():
    """Colour has a meaning that is the same in every picture; gaps are transparent."""
    maps = np.stack([np.full((4, 4), value, np.float32) for value in (1.0, -1.0, 0.0)])
    picture = pixels(plots.feature_maps(maps, columns=3))
    assert picture.shape == (56, 3 * 56 + 2 * 4, 4)
    red, blue, white = picture[28, 28], picture[28, 88], picture[28, 148]
    assert red[0] > 2 * red[2]
    assert blue[2] > 2 * blue[0]
    assert white[:3].min() > 240
    assert picture[28, 57, 3] == 0


def test_pixels_are_not_blurred():
    """Each element of a map is one square of one colour."""
    picture = pixels(plots.feature_maps(np.array([[[0.0, 1.0], [2.0, -3.0]]])))
    assert len(np.unique(picture.reshape(-1, 4), axis=0)) == 4


def test_units_without_an_image_are_squares():
    """A vector is drawn too, wrapped into rows."""
    assert pixels(plots.feature_maps(np.arange(64.0), columns=8)).shape[0] == 2 * 14 + 4


def test_maps_of_zeros_and_nans_are_drawn():
    """A dead layer or a broken one is a picture, not an error."""
    assert pixels(plots.feature_maps(np.zeros((2, 3, 3)))).size
    assert pixels(plots.feature_maps(np.full((2, 3, 3), np.nan))).size


def test_maps_of_another_rank_are_refused():
    """With the rank that was expected."""
    with pytest.raises(ValueError, match=r"\[channel, height, width\]"):
        plots.feature_maps(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"\[filter, channel, height, width\]"):
        plots.filters(np.zeros((2, 2, 2)))


def test_filters_with_several_channels_have_a_row_each():
    """Three channels side by side, four filters one under the other."""
    height, width, _ = pixels(plots.filters(np.random.default_rng(0).normal(size=(4, 3, 2, 2)))).shape
    assert height > width


def test_projections_name_every_class_at_its_median():
    """Colour alone would leave some readers out."""
    points = np.array([[0.0, 0], [0, 2], [10, 10], [10, 12]])
    figure = plots.projections({"h1": points, "h2": points[::-1]}, np.array([3, 3, 7, 7]), captions={"h1": "Relu"})
    first = figure.axes[0]
    assert first.get_title() == "h1\nRelu"
    assert {text.get_text(): text.get_position() for text in first.texts} == {"3": (0.0, 1.0), "7": (10.0, 11.0)}
    assert pixels(figure).size


def test_palette_has_ten_different_colours():
    """A digit each."""
    assert len(set(plots.PALETTE)) == 10
