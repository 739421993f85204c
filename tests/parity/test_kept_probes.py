"""The catalog of probes: embedded, over gRPC and through shared memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, parser
from tests.served_probes import OLD, Keeper, Linear, X

import onnxscope
from onnxscope_server.api import probe_keeping


def test_another_probe_of_a_name_is_the_one_that_runs(keeper: Callable[[Any], Keeper]) -> None:
    """Overwriting and deleting take effect with the next call, whatever sessions are kept."""
    text, one, two = keeper(OLD), Linear.drawn(4), Linear.drawn(4, seed=1)
    text.bring_in("p", one.onnx(), "h")
    one.check(text.run({"x": X}, "p"), "p", np.tanh(X))
    with pytest.raises(Exception, match="already") as error:
        text.bring_in("p", two.onnx(), "h")
    assert "ProbeExists" in type(error.value).__name__ or "probe" in str(error.value)
    text.bring_in("p", two.onnx(), "h", overwrite=True)
    two.check(text.run({"x": X}, "p"), "p", np.tanh(X))
    text.call("DeleteProbe", name="p")
    with pytest.raises(onnxscope.ProbeNotFoundError, match="'p'"):
        text.run({"x": X}, "p")


def _with(linear: bytes, change: Callable[[onnx.ModelProto], object]) -> bytes:
    proto = onnx.ModelProto.FromString(linear)
    change(proto)
    return proto.SerializeToString()


def _second_input(proto: onnx.ModelProto) -> None:
    proto.graph.input.add().CopyFrom(helper.make_tensor_value_info("other", 1, [1]))


def _integers(proto: onnx.ModelProto) -> None:
    del proto.graph.node[:], proto.graph.output[:]
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    proto.graph.node.append(helper.make_node("Neg", ["x"], ["y"]))
    proto.graph.output.append(helper.make_tensor_value_info("y", onnx.TensorProto.INT64, None))


def _external(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def _unknown_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].op_type = "NoSuchThing"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_second_input, "one input"),
        (_integers, "no array of floats"),
        (_external, "other files|external"),
        (_unknown_operator, "no probe"),
    ],
)
def test_files_that_are_no_probe_are_refused(
    keeper: Callable[[Any], Keeper], change: Callable[[onnx.ModelProto], None], why: str
) -> None:
    """The error says what is wrong; nothing is kept."""
    model = keeper(OLD)
    with pytest.raises(Exception, match=why):
        model.bring_in("bad", _with(Linear.drawn(4).onnx(), change), "h")
    assert not model.call("ListProbes").probes


def test_a_probe_that_does_not_fit_is_refused(keeper: Callable[[Any], Keeper], digits_path: Path) -> None:
    """Another number of features, no such hook point, a hook point left out, garbage, a name that is none."""
    digits = keeper(digits_path)
    linear = Linear.drawn(63).onnx()
    for name, data, address, why in (
        ("p", linear, "relu5", "63 features and there are 64"),
        ("p", linear, "relu9", "relu5|Closest"),
        ("p", linear, "", "hook point"),
        ("p", b"garbage", "relu5", "no probe"),
        ("", linear, "relu5", "name"),
    ):
        with pytest.raises(Exception, match=why):
            digits.bring_in(name, data, address)
    with pytest.raises(onnxscope.ProbeNotFoundError, match="there are none"):
        digits.run({"image": np.zeros((1, 1, 8, 8), np.float32)}, "nobody")


def test_a_probe_that_old_operators_cannot_say_is_refused_when_it_comes(keeper: Callable[[Any], Keeper]) -> None:
    """Not when it is first used."""
    own = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> own (float[n, 4] h) => (float[n, 4] y) { y = HardSwish (h) }'
    )
    with pytest.raises(Exception, match="HardSwish of opset 17 can't be said in the model's opset 7"):
        keeper(OLD).bring_in("own", own.SerializeToString(), "h")


def test_a_probe_of_another_model_or_place_is_refused(keeper: Callable[[Any], Keeper]) -> None:
    """Its file says what it was made for, and that counts."""
    old = keeper(OLD)
    old.bring_in("p", Linear.drawn(4).onnx(), "h")
    data = old.exported("p")
    old.call("DeleteProbe", name="p")
    assert old.bring_in("", data).address == "h"
    other = keeper(OLD.replace("Neg", "Abs"))
    with pytest.raises(Exception, match="made for the model"):
        other.bring_in("p", data, "h")


def test_lists_come_in_pages(keeper: Callable[[Any], Keeper]) -> None:
    """By name, as many as asked for at a time."""
    old = keeper(OLD)
    for name in ("c", "a", "b/x"):
        old.bring_in(name, Linear.drawn(4).onnx(), "h")
    first = old.call("ListProbes", page_size=2)
    rest = old.call("ListProbes", page_size=2, page_token=first.next_page_token)
    assert [probe.name for page in (first, rest) for probe in page.probes] == ["a", "b/x", "c"]
    assert not rest.next_page_token
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_keeping, "_PAGE_BYTES", 1)
        short = old.call("ListProbes", page_token="1")
    assert ([probe.name for probe in short.probes], short.next_page_token) == (["b/x"], "2")
    probe = old.call("GetProbe", name="b/x").probe
    assert (probe.address, probe.kind, list(probe.outputs)) == ("h", "onnx", ["labels", "scores"])
    assert probe.byte_count == len(old.exported("b/x"))
