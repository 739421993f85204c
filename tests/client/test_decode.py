"""Messages that describe models, as values."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from onnxscope import decode
from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import model_service_pb2 as pb
from onnxscope.v1 import tensor_pb2

FLOAT = tensor_pb2.ValueType(tensor=tensor_pb2.TensorType(data_type=tensor_pb2.DATA_TYPE_BFLOAT16))


@pytest.mark.parametrize(
    ("message", "dtype"),
    [
        (FLOAT, "bfloat16"),
        (tensor_pb2.ValueType(sparse_tensor=FLOAT.tensor), "bfloat16"),
        (tensor_pb2.ValueType(sequence=tensor_pb2.SequenceType(element=FLOAT)), "sequence(bfloat16)"),
        (
            tensor_pb2.ValueType(map=tensor_pb2.MapType(key=tensor_pb2.DATA_TYPE_STRING, value=FLOAT)),
            "map(string, bfloat16)",
        ),
        (tensor_pb2.ValueType(optional=tensor_pb2.OptionalType(element=FLOAT)), "optional(bfloat16)"),
        (tensor_pb2.ValueType(), "?"),
        (tensor_pb2.ValueType(tensor=tensor_pb2.TensorType(data_type=99)), "?"),
    ],
)
def test_types_read_as_they_are_nested(message, dtype):
    """Unknown types, also those of a newer server, are question marks."""
    assert decode.value_type(message) == (dtype, None)


def test_sizes_symbols_and_what_is_not_known(make_spec):
    """Three kinds of axes, a scalar, and no rank at all."""
    (spec,) = decode.specs([make_spec("x", shape=(2, "n", None))])
    assert spec.shape == (2, "n", None)
    assert decode.specs([make_spec("x", shape=())])[0].shape == ()
    assert decode.specs([make_spec("x", shape=None)])[0].shape is None


@pytest.mark.parametrize("kind", ["input", "activation", "output", "constant", "weight", "unused"])
def test_kinds_are_those_of_the_contract(kind):
    """In lower case, without the enum's prefix; batch axis 0 is not none."""
    message = pb.HookPoint(address="h", kind=f"HOOK_POINT_KIND_{kind.upper()}", batch_axis=0)
    assert decode.hook_point(message).kind == kind
    assert decode.hook_point(message).batch_axis == 0
    assert decode.hook_point(pb.HookPoint()).batch_axis is None


def test_a_model_keeps_its_time(make_model):
    """In UTC, and None where it is not told."""
    message = make_model()
    assert decode.model(message).load_time is None
    message.load_time.FromSeconds(60)
    assert decode.model(message).load_time == datetime(1970, 1, 1, 0, 1, tzinfo=UTC)


def test_a_size_of_nothing_is_not_an_unknown_size():
    """Zero bytes are known."""
    values = [
        capture_pb.PlannedValue(name="a", role=tensor_pb2.VALUE_ROLE_ACTIVATION, byte_count=0),
        capture_pb.PlannedValue(name="y", role=tensor_pb2.VALUE_ROLE_OUTPUT),
    ]
    plan = decode.plan(capture_pb.CapturePlan(values=values))
    assert [(value.is_output, value.byte_count) for value in plan] == [(False, 0), (True, None)]
