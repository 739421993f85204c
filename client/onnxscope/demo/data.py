"""The rows that the demo's model is trained and tested on."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEST_SIZE = 0.3
SPLIT_SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Digits:
    """Handwritten digits, split once and for all.

    Attributes:
        train_images: float32 `[row, channel=1, height=8, width=8]` in 0..1.
        train_labels: int64 `[row]`, the digit.
        test_images: float32 `[row, channel=1, height=8, width=8]` in 0..1.
        test_labels: int64 `[row]`, the digit.
    """

    train_images: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.int64]


def load() -> Digits:
    """Loads scikit-learn's digits (they come with it: nothing is downloaded).

    The split is stratified by digit and always the same: `digits.onnx` has never seen
    the test rows.

    Returns:
        1257 training rows and 540 test rows.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.

    Source:
        Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), its
        test part.
    """
    try:
        datasets: Any = importlib.import_module("sklearn.datasets")
        selection: Any = importlib.import_module("sklearn.model_selection")
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise
        message = "the digits come with scikit-learn: pip install 'onnxscope[server]'"
        raise ModuleNotFoundError(message, name=error.name) from error

    bunch = datasets.load_digits()
    images = (bunch.images / 16).astype(np.float32)[:, np.newaxis]
    labels = bunch.target.astype(np.int64)
    train_images, test_images, train_labels, test_labels = selection.train_test_split(
        images, labels, test_size=TEST_SIZE, stratify=labels, random_state=SPLIT_SEED
    )
    return Digits(train_images, train_labels, test_images, test_labels)
