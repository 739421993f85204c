"""FitProbe and Sweep as messages over gRPC, from any language; bad ones get an error that says what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from tests.messages import messages

import onnxscope
from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope.v1 import tensor_pb2
from onnxscope.v1.probe_service_pb2_grpc import ProbeServiceStub

X = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
_ROLES = {
    "labels": tensor_pb2.VALUE_ROLE_LABEL,
    "groups": tensor_pb2.VALUE_ROLE_GROUP,
    "weights": tensor_pb2.VALUE_ROLE_WEIGHT,
    "test": tensor_pb2.VALUE_ROLE_TEST,
}


def batch(index: int, inputs: dict[str, Any], **beside: Any) -> list[capture_pb.StreamItem]:
    """The messages of a batch."""
    values = [(tensor_pb2.VALUE_ROLE_INPUT, name, value) for name, value in inputs.items()]
    values += [(_ROLES[name], name, value) for name, value in beside.items()]
    parts = [part for value in values for part in messages(*value)]
    return [
        capture_pb.StreamItem(batch_start=capture_pb.BatchStart(index=index)),
        *(capture_pb.StreamItem(input=part) for part in parts),
        capture_pb.StreamItem(batch_end=capture_pb.BatchEnd()),
    ]


def rows(name: str = "x", size: int = 80) -> list[capture_pb.StreamItem]:
    """All rows, in batches."""
    starts = range(0, len(X), size)
    return [
        item
        for index, at in enumerate(starts)
        for item in batch(index, {name: X[at : at + size]}, labels=Y[at : at + size])
    ]


@pytest.fixture(scope="module")
def stub(server: str) -> Iterator[ProbeServiceStub]:
    """Calls the service."""
    with grpc.insecure_channel(server) as channel:
        yield ProbeServiceStub(channel)


@pytest.fixture(scope="module")
def digest(server: str, chain: bytes) -> str:
    """A model on the server."""
    with onnxscope.connect(server) as scope:
        return scope.load(chain, name="probed").digest


def fit(stub: ProbeServiceStub, spec: pb.ProbeSpec, items: Sequence[capture_pb.StreamItem]) -> list[Any]:
    """Fits a probe, each item in a message of its own."""
    requests = [pb.FitProbeRequest(spec=spec), *(pb.FitProbeRequest(items=[item]) for item in items)]
    return list(stub.FitProbe(iter(requests)))


def test_a_probe_is_fitted(stub: ProbeServiceStub, digest: str) -> None:
    """Progress, then the probe with its report and its arrays."""
    spec = pb.ProbeSpec(name="sign", model=digest, selectors=["a"], without_controls=True)
    told = fit(stub, spec, rows())
    counts = [one.progress.row_count for one in told if one.progress.stage == "capture"]
    assert counts == [80, 160, 200]
    probe = told[-1].probe
    assert (probe.name, probe.model_digest, probe.address, probe.kind) == ("sign", digest, "a", "logistic")
    assert probe.task == pb.PROBE_TASK_CLASSES
    assert probe.report.metric == "accuracy"
    assert probe.report.interval_low <= probe.report.score <= probe.report.interval_high
    assert probe.report.score > 0.9
    assert probe.report.train_count + probe.report.test_count == 200
    assert {part.start.name for part in probe.arrays} == {"coef", "intercept"}
    assert not any(one.data for one in told)


def test_without_a_model_the_probe_comes_whole(stub: ProbeServiceStub) -> None:
    """Its file comes before it, and is ONNX."""
    told = fit(stub, pb.ProbeSpec(without_controls=True, kind="ridge"), rows("activations"))
    data = b"".join(one.data for one in told)
    assert onnx.load_from_string(data).graph.output
    assert told[-1].probe.byte_count == len(data)


def test_a_sweep_tells_of_each_probe(stub: ProbeServiceStub, digest: str) -> None:
    """And ends with `completed`; the same rows again bring the same probes without a fit."""
    spec = pb.ProbeSpec(name="layers", model=digest, selectors=["a", "b", "y"], without_controls=True)
    for resumed in (0, 3):
        told = list(_sweep(stub, spec))
        probes = [one.probe.name for one in told if one.HasField("probe")]
        assert sorted(probes) == ["layers/a", "layers/b", "layers/y"]
        assert told[-1].completed.resumed_count == resumed
        assert len(told[-1].completed.data_digest) == 32
        stages = {one.progress.stage for one in told if one.HasField("progress")}
        assert stages == {"capture"} if resumed else stages > {"capture"}


def test_groups_weights_and_test_rows_are_used(stub: ProbeServiceStub, digest: str) -> None:
    """Rows that are said to be held out are."""
    test = np.arange(200) < 50
    items = batch(0, {"x": X}, labels=Y, groups=np.arange(200) // 2, weights=np.ones(200), test=test)
    spec = pb.ProbeSpec(name="held", model=digest, selectors=["a"], without_controls=True)
    report = fit(stub, spec, items)[-1].probe.report
    assert (report.train_count, report.test_count) == (150, 50)


@pytest.mark.parametrize(
    ("spec", "items", "code", "text"),
    [
        ({"selectors": ["a"], "kind": "guess"}, rows, grpc.StatusCode.INVALID_ARGUMENT, "'guess' is unknown"),
        ({"selectors": ["a"], "seed": -1}, rows, grpc.StatusCode.INVALID_ARGUMENT, "from 0 to 4294967295"),
        ({"selectors": ["a"], "seed": 1 << 32}, rows, grpc.StatusCode.INVALID_ARGUMENT, "from 0 to 4294967295"),
        ({"selectors": ["a", "b"]}, rows, grpc.StatusCode.INVALID_ARGUMENT, "Name one, or sweep"),
        ({"selectors": ["nowhere"]}, rows, grpc.StatusCode.NOT_FOUND, "nowhere"),
        ({"selectors": ["a"]}, list, grpc.StatusCode.INVALID_ARGUMENT, "no rows"),
        ({"selectors": ["a"]}, lambda: rows()[1:], grpc.StatusCode.INVALID_ARGUMENT, "opens with batch_start"),
        ({"selectors": ["a"]}, lambda: rows()[:-1], grpc.StatusCode.INVALID_ARGUMENT, "ended within batch 2"),
        ({"selectors": ["a"]}, lambda: rows("z"), grpc.StatusCode.INVALID_ARGUMENT, "no input 'z'|input 'x'"),
        (
            {"selectors": ["a"]},
            lambda: batch(0, {"x": X}, labels=np.zeros(200, np.int64)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "two classes",
        ),
        (
            {"selectors": ["a"], "params_json": f'{{"C": 1{"0" * 400}}}'},
            rows,
            grpc.StatusCode.INVALID_ARGUMENT,
            "too large",
        ),
        (
            {"selectors": ["a"], "class_weight_json": f'{{"0": 1{"0" * 400}}}'},
            rows,
            grpc.StatusCode.INVALID_ARGUMENT,
            "too large",
        ),
        (
            {"selectors": ["a"], "class_weight_json": f'{{"{"1" * 5000}": 1}}'},
            rows,
            grpc.StatusCode.INVALID_ARGUMENT,
            "class_weight names 1111",
        ),
        (
            {"selectors": ["a"]},
            lambda: rows() + batch(3, {"x": X}, labels=np.stack([Y, Y], 1).astype(bool)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "alike in all batches",
        ),
        (
            {"selectors": ["a"]},
            lambda: rows() + batch(3, {"x": X}, labels=Y.astype(str).astype(object)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "alike in all batches",
        ),
        (
            {"selectors": ["a"]},
            lambda: batch(0, {"x": X}, labels=Y, weights=Y.astype(str).astype(object)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "weights must be numbers",
        ),
        (
            {"selectors": ["a"]},
            lambda: batch(0, {"x": X}, labels=Y.astype(np.complex64)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "labels must be numbers",
        ),
        (
            {"model": "", "selectors": []},
            lambda: batch(0, {"activations": X[:, :0]}, labels=Y),
            grpc.StatusCode.INVALID_ARGUMENT,
            "has no features",
        ),
    ],
)
def test_bad_requests_are_told_what_to_do(
    stub: ProbeServiceStub, digest: str, spec: dict[str, Any], items: Callable[[], Any], code: Any, text: str
) -> None:
    """Each with its own status."""
    with pytest.raises(grpc.RpcError, match=text) as error:
        fit(stub, pb.ProbeSpec(**({"name": "bad", "model": digest} | spec)), items())
    assert error.value.code() is code


@pytest.mark.parametrize("token", ["x", "9" * 5000])
def test_a_page_token_that_is_none_is_refused(stub: ProbeServiceStub, digest: str, token: str) -> None:
    """However long it is."""
    with pytest.raises(grpc.RpcError, match="next_page_token") as error:
        stub.ListProbes(pb.ListProbesRequest(model=digest, page_token=token))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_client_that_goes_ends_its_sweep(stub: ProbeServiceStub, digest: str) -> None:
    """And another may go on under the same name, once the activations are free."""
    spec = pb.ProbeSpec(name="gone", model=digest, selectors=["a", "b"], without_controls=True)
    call = _sweep(stub, spec)
    next(call)
    call.cancel()
    codes: set[Any] = set()
    for _ in range(100):
        again = _sweep(stub, spec)
        try:
            told = list(again)
        except grpc.RpcError:
            codes.add(again.code())
            time.sleep(0.05)
            continue
        assert told[-1].HasField("completed")
        break
    assert codes <= {grpc.StatusCode.UNAVAILABLE}


def _sweep(stub: ProbeServiceStub, spec: pb.ProbeSpec) -> Any:
    return stub.Sweep(iter([pb.SweepRequest(spec=spec), pb.SweepRequest(items=rows())]))
