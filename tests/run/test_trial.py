"""The trial load."""

from __future__ import annotations

import pytest

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.errors import ModelInvalidError
from onnxscope_server.run.session import Opening
from onnxscope_server.run.trial import check, providers_in_use


def test_a_good_model_passes(chain: bytes) -> None:
    """Nothing is returned and nothing is left."""
    check(CatalogModel.from_bytes(chain))


def test_an_operator_that_onnxruntime_lacks(chain: bytes) -> None:
    """The error names the operator."""
    with pytest.raises(ModelInvalidError, match="Rolu"):
        check(CatalogModel.from_bytes(chain.replace(b"Relu", b"Rolu")))


def test_providers_in_use_are_those_of_a_real_session() -> None:
    """What is reported as running models comes from onnxruntime, not from the settings."""
    assert providers_in_use(Opening()) == ("CPUExecutionProvider",)
