"""Image files as model inputs: prepared as the caller says, never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from onnxscope.cli.console import CommandError

if TYPE_CHECKING:
    from pathlib import Path

    from onnxscope.results import TensorSpec
    from onnxscope.v1.codec import Array

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
LAYOUTS = {"nchw": 1, "nhwc": 3}
_EXAMPLE = "--resize 224x224 --layout nchw --scale 1/255 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"
_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
_RANK = 4


@dataclass(frozen=True, slots=True)
class Preparation:
    """How pixels become an input; None where the caller has not said it.

    Attributes:
        resize: `HxW`, or `none` to keep the size.
        layout: `nchw` or `nhwc`.
        scale: factor on pixels 0 to 255, a number or a fraction (`1/255`).
        mean: subtracted after scaling, one number or one a channel, separated by commas.
        std: divided by after that, likewise.
        mode: `L` to convert to grey, `RGB` to convert to colour, None to take the file as it is.
    """

    resize: str | None = None
    layout: str | None = None
    scale: str | None = None
    mean: str | None = None
    std: str | None = None
    mode: str | None = None

    def missing(self) -> list[str]:
        """Returns the options that the caller has yet to give."""
        needed = ("resize", "layout", "scale", "mean", "std")
        return [f"--{name}" for name in needed if getattr(self, name) is None]


def read(path: Path, spec: TensorSpec, preparation: Preparation) -> Array:
    """Reads one image as a batch of one row.

    Args:
        path: of the image; its orientation tag is obeyed.
        spec: the model's input.
        preparation: said in full; see `Preparation`.

    Returns:
        `[row=1, channel, height, width]` or `[row=1, height, width, channel]`, in the input's dtype:
        `(pixel * scale - mean) / std`.

    Raises:
        CommandError: something is not said, or image and input don't fit each other.
    """
    if missing := preparation.missing():
        raise CommandError(
            f"{path} is an image, and how to prepare it must be said: {', '.join(missing)} missing "
            f"(for example {_EXAMPLE}; --resize none keeps the size, --mean 0 --std 1 leaves values alone)"
        )
    layout = (preparation.layout or "").lower()
    if layout not in LAYOUTS:
        raise CommandError(f"--layout is nchw or nhwc, not {preparation.layout!r}")
    if spec.shape is not None and len(spec.shape) != _RANK:
        raise CommandError(f"{path} is an image, but the input {spec} has {len(spec.shape)} axes, not four")
    image = _convert(path, _open(path), preparation.mode)
    _check_channels(path, image, spec, layout)
    if size := _size(preparation.resize or "none"):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels: Array = np.asarray(image, np.float32)
    pixels = pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels  # noqa: PLR2004  height and width
    channels = pixels.shape[2]
    pixels = pixels * np.float32(_number("--scale", preparation.scale or ""))
    pixels = pixels - _per_channel("--mean", preparation.mean or "", channels)
    std = _per_channel("--std", preparation.std or "", channels)
    if not std.all():
        raise CommandError("--std must not be zero")
    pixels = pixels / std
    if layout == "nchw":
        pixels = pixels.transpose(2, 0, 1)
    return _cast(path, np.ascontiguousarray(pixels[np.newaxis]), spec)


def _open(path: Path) -> Image.Image:
    if not path.is_file():
        raise CommandError(f"there is no file {path}")
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        raise CommandError(f"{path} cannot be read as an image: {error}") from error


def _convert(path: Path, image: Image.Image, mode: str | None) -> Image.Image:
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode.startswith(("I", "F")):
        raise CommandError(f"{path} has more than 8 bits a pixel ({image.mode}); prepare it as .npy and give that")
    if mode is not None:
        return image.convert(mode)
    if image.mode not in _CHANNELS:
        raise CommandError(f"{path} is stored as {image.mode}; add --rgb or --grayscale to convert it")
    return image


def _check_channels(path: Path, image: Image.Image, spec: TensorSpec, layout: str) -> None:
    wanted = spec.shape[LAYOUTS[layout]] if spec.shape is not None else None
    got = _CHANNELS[image.mode]
    if not isinstance(wanted, int) or wanted == got:
        return
    cure = {1: "--grayscale", 3: "--rgb"}.get(wanted)
    advice = f"{cure} converts it" if cure else "prepare it as .npy and give that"
    other = next(name for name in LAYOUTS if name != layout)
    turned = spec.shape is not None and spec.shape[LAYOUTS[other]] == got
    hint = f"; is the layout {other}?" if turned else f"; {advice}"
    raise CommandError(
        f"{path} has {got} channels ({image.mode}), and {spec} takes {wanted} with --layout {layout}{hint}"
    )


def _size(text: str) -> tuple[int, int] | None:
    if text.lower() == "none":
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise CommandError(f"--resize is HEIGHTxWIDTH, 224x224 say, or none; not {text!r}")
    return int(height), int(width)


def _number(option: str, text: str) -> float:
    try:
        return float(Fraction(text.strip()))
    except (ValueError, ZeroDivisionError):
        raise CommandError(f"{option} is a number or a fraction such as 1/255, not {text!r}") from None


def _per_channel(option: str, text: str, channels: int) -> Array:
    numbers = [_number(option, item) for item in text.split(",")]
    if len(numbers) not in (1, channels):
        raise CommandError(f"{option} has {len(numbers)} numbers for {channels} channels; give one or {channels}")
    return np.array(numbers, np.float32)


def _cast(path: Path, pixels: Array, spec: TensorSpec) -> Array:
    """Gives the pixels the input's dtype; whole numbers only where they are whole."""
    dtype = np.dtype(getattr(ml_dtypes, spec.dtype, None) or spec.dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        whole = np.array_equal(pixels, np.round(pixels))
        if not whole or pixels.min() < limits.min or pixels.max() > limits.max:
            raise CommandError(
                f"{spec} takes whole numbers from {limits.min} to {limits.max}, and {path} prepared like this "
                "has others; --scale 1 --mean 0 --std 1 keeps pixels as they are"
            )
    return pixels.astype(dtype)
