"""Probes that run with a model: embedded, over gRPC and through shared memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from onnx import parser
from tests.cut_everywhere import cut_everywhere
from tests.served_probes import NONE, OLD, Array, Keeper, Linear, X

from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope_server.probe_domain import ProbeInfo, ProbeKind, Task
from onnxscope_server.probes import export, kinds
from onnxscope_server.probes.array_rows import in_memory
from onnxscope_server.probes.predict import predictions

SPATIAL_MEAN = capture_pb.Reduction(kind=capture_pb.REDUCTION_KIND_SPATIAL_MEAN)
TEXT = """<ir_version: 8, opset_import: ["" : 17]>
    text (int64[row, position] ids, int64[row, position] mask) => (float[row, 2] y)
    <float[5, 4] table = {0.5, 1, 2, 3, 4, -5, 6, 7, 8, 9, 1, 1, 2, -3, 4, 5, 6, 7, 8, -9},
     float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}> {
        h = Gather (table, ids)  t = Tanh (h)  p = ReduceMean <axes = [1], keepdims = 0> (t)  y = MatMul (p, w) }"""
LOOP = """<ir_version: 8, opset_import: ["" : 17]>
    loop (float[row, 4] x, int64 n) => (float[row, 4] y) {
        t = Constant <value = bool {1}> ()
        y = Loop (n, t, x) <body = trip (int64 i, bool go, float[row, 4] v) => (bool on, float[row, 4] w) {
            on = Identity (go)  h = Tanh (v)  w = Add (h, v) }> }"""
FUNCTION = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
    calls (float[row, 4] x) => (float[row, 4] y) { y = own.twice (x) }
    <domain: "own", opset_import: ["" : 15]>
    twice (a) => (b) { h = Tanh (a)  b = Add (h, h) }"""
BRANCH = """<ir_version: 8, opset_import: ["" : 17]>
    branch (float[row, 4] x, bool c) => (float[row, 4] y) {
        y = If (c) <then_branch = a () => (float[row, 4] u) { h = Tanh (x)  u = Neg (h) },
                    else_branch = b () => (float[row, 4] v) { v = Abs (x) }> }"""
HALF = """<ir_version: 8, opset_import: ["" : 17]>
    half (float[row, 4] x) => (float[row, 4] y) { h = Cast <to = 10> (x)  a = Erf (h)  y = Cast <to = 1> (a) }"""


@pytest.fixture
def images(rng: np.random.Generator) -> dict[str, Array]:
    """Five images."""
    return {"image": rng.random((5, 1, 8, 8), dtype=np.float32)}


def test_probes_say_what_they_would_of_captured_activations(
    keeper: Callable[[Any], Keeper], digits_path: Path, images: dict[str, Array]
) -> None:
    """At a matrix, behind a reduction, at an image that is flattened, twice at one place; outputs are the model's."""
    digits = keeper(digits_path)
    wide, mean, flat, other = Linear.drawn(64), Linear.drawn(32, 2), Linear.drawn(192, 5), Linear.drawn(64, 4, seed=1)
    digits.bring_in("wide", wide.onnx(), "relu5")
    digits.bring_in("mean", mean.onnx(17), "relu2", SPATIAL_MEAN)
    digits.bring_in("pool/with ::odd* ünames", flat.onnx(), "pool2")
    digits.bring_in("other", other.onnx(21), "relu5")
    plain = digits.run(images)
    found = digits.run(
        images, "wide", "mean", "pool/with ::odd* ünames", "other", selectors=["relu5", "relu2", "pool2"]
    )
    wide.check(found, "wide", found.activations["relu5"])
    mean.check(found, "mean", found.activations["relu2"].mean((2, 3)))
    flat.check(found, "pool/with ::odd* ünames", found.activations["pool2"])
    other.check(found, "other", found.activations["relu5"])
    np.testing.assert_array_equal(found.outputs["logits"], plain.outputs["logits"])
    assert not plain.plan.probes
    assert [probe.name for probe in found.plan.probes][:2] == ["wide", "mean"]
    assert found.plan.probes[0].kind == "onnx"


def test_activations_stay_and_nodes_that_nothing_needs_are_cut(
    keeper: Callable[[Any], Keeper], digits_path: Path, images: dict[str, Array]
) -> None:
    """Only labels and scores come; without outputs nothing behind the hook point runs."""
    digits, early = keeper(digits_path), Linear.drawn(32, 2)
    digits.bring_in("early", early.onnx(), "relu2", SPATIAL_MEAN)
    whole = digits.run(images, "early")
    alone = digits.run(images, "early", outputs=NONE)
    assert not whole.activations
    assert not alone.activations
    assert not alone.outputs
    assert set(alone.probed) == {"early::labels", "early::scores"}
    for key, value in alone.probed.items():
        np.testing.assert_allclose(whole.probed[key], value, rtol=1e-5)
    # of 14 nodes of the model, 10 stand behind the hook point
    assert whole.plan.node_count - alone.plan.node_count == 10
    assert sum(value.nbytes for value in alone.probed.values()) < 1024 * 5


def test_masks_of_a_probe_are_inputs_of_the_model(keeper: Callable[[Any], Keeper]) -> None:
    """A mean over unmasked positions, and every unmasked position as a row, on a model of text."""
    text, linear = keeper(TEXT), Linear.drawn(4)
    mean, positions = (
        capture_pb.Reduction(kind=kind, mask_input="mask")
        for kind in (capture_pb.REDUCTION_KIND_MEAN, capture_pb.REDUCTION_KIND_POSITIONS)
    )
    text.bring_in("mean", linear.onnx(), "t", mean)
    text.bring_in("positions", linear.onnx(), "t", positions)
    inputs = {"ids": np.array([[0, 1, 2], [3, 4, 0]]), "mask": np.array([[1, 1, 0], [1, 0, 0]])}
    found = text.run(inputs, "mean", "positions", selectors=["t"])
    kept = [found.activations["t"][0, :2], found.activations["t"][1, :1]]
    linear.check(found, "mean", np.stack([rows.mean(0) for rows in kept]))
    linear.check(found, "positions", np.concatenate(kept))


@pytest.mark.parametrize("opset", [13, 21])
def test_a_probe_in_a_loop_speaks_in_every_iteration(keeper: Callable[[Any], Keeper], opset: int) -> None:
    """Its outputs have the iteration as their first axis, whatever opset it was written in."""
    loop, linear = keeper(LOOP), Linear.drawn(4)
    loop.bring_in("trip", linear.onnx(opset), "Loop_0::body::h")
    for outputs in (NONE, capture_pb.OUTPUT_MODE_UNMODIFIED):
        found = loop.run({"x": X, "n": np.array(3)}, "trip", selectors=["Loop_0::body::h"], outputs=outputs)
        for at, activations in enumerate(found.activations["Loop_0::body::h"]):
            labels, scores = linear.says(activations)
            np.testing.assert_array_equal(found.probe("trip", "labels")[at], labels)
            np.testing.assert_allclose(found.probe("trip", "scores")[at], scores, rtol=1e-4)


def test_a_probe_in_a_function_is_written_in_the_functions_opset(keeper: Callable[[Any], Keeper]) -> None:
    """A local function imports operators of its own."""
    calls, linear = keeper(FUNCTION), Linear.drawn(4)
    calls.bring_in("inside", linear.onnx(), "twice_0::twice::h")
    found = calls.run({"x": X}, "inside")
    linear.check(found, "inside", np.tanh(X))
    np.testing.assert_allclose(found.outputs["y"], 2 * np.tanh(X), rtol=1e-6)


def test_a_probe_in_a_branch_is_silent_where_it_was_not_taken(keeper: Callable[[Any], Keeper]) -> None:
    """Its outputs are None then."""
    branch, linear = keeper(BRANCH), Linear.drawn(4)
    branch.bring_in("then", linear.onnx(), "If_0::then_branch::h")
    taken = branch.run({"x": X, "c": np.array(True)}, "then")
    linear.check(taken, "then", np.tanh(X))
    assert branch.run({"x": X, "c": np.array(False)}, "then").probed == {"then::labels": None, "then::scores": None}


def test_half_precision_is_cast_and_outputs_stay(keeper: Callable[[Any], Keeper]) -> None:
    """Where a probe keeps a cast that the optimiser takes away, the unmodified model runs beside."""
    half, linear = keeper(HALF), Linear.drawn(4)
    half.bring_in("rounded", linear.onnx(), "a")
    plain = half.run({"x": X})
    found = half.run({"x": X}, "rounded", selectors=["a"])
    assert found.activations["a"].dtype == np.float16
    linear.check(found, "rounded", found.activations["a"])
    np.testing.assert_array_equal(found.outputs["y"], plain.outputs["y"])


def test_an_old_model_gets_the_probe_in_its_own_opset(keeper: Callable[[Any], Keeper]) -> None:
    """Opset 7 has the operators of a linear probe, in an older spelling."""
    old, linear = keeper(OLD), Linear.drawn(4)
    old.bring_in("linear", linear.onnx(), "h")
    linear.check(old.run({"x": X}, "linear"), "linear", np.tanh(X))


def test_a_stream_brings_probes_of_every_batch(
    keeper: Callable[[Any], Keeper], digits_path: Path, rng: np.random.Generator
) -> None:
    """Batch after batch, of differing sizes."""
    digits, linear = keeper(digits_path), Linear.drawn(64)
    digits.bring_in("wide", linear.onnx(), "relu5")
    batches = [{"image": rng.random((rows, 1, 8, 8), dtype=np.float32)} for rows in (3, 1, 3)]
    answers = digits.stream(batches, "wide", selectors=["relu5"])
    assert len(answers) == 3
    for answer in answers:
        linear.check(answer, "wide", answer.activations["relu5"])


def test_what_a_stream_carries_stays_hidden_beside_probes(keeper: Callable[[Any], Keeper]) -> None:
    """A stream without outputs feeds them back all the same."""
    model = keeper(
        """<ir_version: 8, opset_import: ["" : 17]>
        steps (float[row, 4] x, float[row, 4] state) => (float[row, 4] next) { h = Add (x, state)  next = Neg (h) }"""
    )
    linear = Linear.drawn(4)
    model.bring_in("h", linear.onnx(), "h")
    first = {"x": X, "state": np.zeros_like(X)}
    one, two = model.stream([first, {"x": X}], "h", carry={"next": "state"}, outputs=NONE)
    linear.check(one, "h", X)
    linear.check(two, "h", X - X)
    assert not one.outputs


def test_segments_bring_probes_as_the_whole_does(
    keeper: Callable[[Any], Keeper], digits_path: Path, images: dict[str, Array]
) -> None:
    """Cut wherever a graph can be cut, with the activations and without."""
    digits, early, late = keeper(digits_path), Linear.drawn(32, 2), Linear.drawn(64)
    digits.bring_in("early", early.onnx(), "relu2", SPATIAL_MEAN)
    digits.bring_in("late", late.onnx(), "relu5")
    with cut_everywhere():
        found = digits.run(images, "late", "early", selectors=["*"], exact=True)
    early.check(found, "early", found.activations["relu2"].mean((2, 3)))
    late.check(found, "late", found.activations["relu5"])


def test_every_output_of_a_file_of_ones_own_comes(keeper: Callable[[Any], Keeper]) -> None:
    """Several outputs, one of which is the input itself and one a weight; other ranks than matrices; ai.onnx.ml."""
    own = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
        own (float[n, 4] h) => (float[n, 4] same, float[2] w, float[n, 4] scaled, float[n, 4] twice)
        <float[2] w = {1, 2}> {
            same = Identity (h)
            scaled = ai.onnx.ml.Scaler <offset = [0.0], scale = [2.0]> (h)  twice = Add (h, h) }"""
    )
    model = keeper(OLD.replace(": 7", ": 17").replace("ir_version: 3", "ir_version: 8"))
    assert list(model.bring_in("own", own.SerializeToString(), "h").outputs) == ["same", "w", "scaled", "twice"]
    found = model.run({"x": X}, "own", selectors=["h"])
    h = found.activations["h"]
    for name, value in (("same", h), ("w", [1, 2]), ("scaled", 2 * h), ("twice", 2 * h)):
        np.testing.assert_array_equal(found.probe("own", name), value)


def test_planning_says_what_probes_bring(keeper: Callable[[Any], Keeper]) -> None:
    """PlanCapture names the probes, their outputs and fewer nodes, without running."""
    model = keeper(LOOP.replace("y) {", "y, float[row, 4] z) { g = Neg (x)  z = Abs (g)", 1))
    model.bring_in("p", Linear.drawn(4).onnx(), "g")
    request = capture_pb.PlanCaptureRequest(spec=model.spec(["p"], outputs=NONE))
    plan = model._link.unary("CaptureService/PlanCapture", request, timeout=60).plan
    (planned,) = plan.probes
    assert dict(planned.outputs) == {"labels": "p::labels", "scores": "p::scores"}
    assert not plan.values
    assert planned.address == "g"


def test_a_fitted_probe_predicts_as_it_did(
    keeper: Callable[[Any], Keeper], digits_path: Path, rng: np.random.Generator
) -> None:
    """What scikit-learn learned and export wrote, with its arrays and classes; it stays where it was fitted."""
    digits = keeper(digits_path)
    images = {"image": rng.random((60, 1, 8, 8), dtype=np.float32)}
    activations = digits.run(images, selectors=["relu5"]).activations["relu5"]
    y = np.where(activations[:, :4].sum(1) > np.median(activations[:, :4].sum(1)), "high", "low").astype(object)
    learner = kinds.learner(ProbeKind.LOGISTIC, Task.CLASSES, {}, None, 0)
    fitted = learner.fit(in_memory(activations), np.arange(60), y, None)
    info = ProbeInfo("", digits.model, "relu5", None, ProbeKind.LOGISTIC, Task.CLASSES, fitted.classes, {"C": 1.0})
    data = export.to_onnx(fitted, info)
    probe = digits.bring_in("parity", data)
    found = digits.run(images, "parity")
    expected = predictions(fitted, activations)
    np.testing.assert_array_equal(found.probe("parity", "labels"), expected["labels"])
    np.testing.assert_allclose(found.probe("parity", "scores"), expected["scores"], atol=1e-4)
    assert list(found.plan.probes[0].classes.texts) == list(probe.classes.texts) == ["high", "low"]
    arrays = digits.call("GetProbe", name="parity").probe.arrays
    assert [part.start.name for part in arrays] == ["coef", "intercept"]
    with pytest.raises(Exception, match="was fitted at 'relu5'"):
        digits.bring_in("other", data, "fc1")


def test_a_sparse_autoencoder_becomes_a_probe(
    keeper: Callable[[Any], Keeper], digits_path: Path, images: dict[str, Array], rng: np.random.Generator
) -> None:
    """Its features come for every row, of an image behind its spatial mean."""
    digits = keeper(digits_path)
    arrays = {"W_enc": rng.standard_normal((32, 5), dtype=np.float32), "b_enc": np.ones(5, np.float32)}
    how = pb.SparseAutoencoder(activation="relu")
    probe = digits.bring_in("sae", safetensors.numpy.save(arrays), "relu2", SPATIAL_MEAN, autoencoder=how)
    found = digits.run(images, "sae", selectors=["relu2"])
    (output,) = probe.outputs
    expected = np.maximum(found.activations["relu2"].mean((2, 3)) @ arrays["W_enc"] + arrays["b_enc"], 0)
    np.testing.assert_allclose(found.probe("sae", output), expected, rtol=1e-4, atol=1e-5)


def test_a_probe_reads_an_input_and_an_output(keeper: Callable[[Any], Keeper]) -> None:
    """They are hook points like others."""
    old, linear = keeper(OLD), Linear.drawn(4)
    for name, address in (("in", "x"), ("out", "y")):
        old.bring_in(name, linear.onnx(), address)
    found = old.run({"x": X}, "in", "out")
    linear.check(found, "in", X)
    linear.check(found, "out", found.outputs["y"])
