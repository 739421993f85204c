"""The trial load."""

from __future__ import annotations

import pytest
from onnx import ValueInfoProto, parser

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import DataType, SequenceType, TensorType
from onnxscope_server.errors import ModelInvalidError
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.trial import Knowledge, check, providers_in_use


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


def test_a_model_that_loads_only_when_optimised_passes() -> None:
    """There is no Shape for int4, but the optimiser folds this one: what a plain session loads is a good model."""
    model = parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 21]>
        g (int4[2] x) => (int64[1] y) { y = Shape(x) }
    """)
    check(CatalogModel.from_bytes(model.SerializeToString()))


def test_types_of_outputs_are_told_as_far_as_they_are_known() -> None:
    """Operators of com.microsoft tell theirs, and symbols go through them; outputs need not state a type."""
    model = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float16[batch, 4] x, seq(int64[N]) s) => (t) {
            gelu = com.microsoft.Gelu (x)
            y = Transpose (gelu)
            t = Identity (s)
        }
    """)
    model.graph.output.extend(ValueInfoProto(name=name) for name in ("gelu", "y"))
    assert Knowledge().output_types(model.SerializeToString(), None) == {
        "t": SequenceType(TensorType(DataType.INT64)),
        "gelu": TensorType(DataType.FLOAT16, ("batch", 4)),
        "y": TensorType(DataType.FLOAT16, (4, "batch")),
    }


@pytest.mark.parametrize(
    ("operator", "there"),
    [
        (("", "Gelu", 20), True),
        (("", "Gelu", 19), False),
        (("com.microsoft", "Gelu", 1), True),
        (("local", "Gelu", 1), False),
    ],
)
def test_operators_are_known_by_the_version_of_their_domain(operator: tuple[str, str, int], there: bool) -> None:
    """ONNX's own Gelu came with version 20."""
    assert Knowledge().has_operator(*operator) is there
