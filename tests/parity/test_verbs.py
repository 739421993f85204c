"""Same call, same result: every verb, embedded and over gRPC, against onnxruntime itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import onnxscope


def _plain(model: bytes | str, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, x), strict=True))


@pytest.fixture
def digits(scope: Any, digits_path: Path) -> Any:
    """The demo's model, loaded."""
    return scope.load(digits_path)


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray:
    """float32 [row, channel, height, width]."""
    return rng.random((7, 1, 8, 8), dtype=np.float32)


def test_capture_gives_activations_and_untouched_outputs(digits: Any, images: np.ndarray, digits_path: Path) -> None:
    """Outputs are the unmodified model's, bit for bit; activations come in graph order with their own dtype."""
    acts = digits.capture(images, at="op:Relu")
    assert list(acts) == ["relu1", "relu2", "relu3", "relu4", "relu5"]
    assert all(acts[name].dtype == np.float32 and (acts[name] >= 0).all() for name in acts)
    want = _plain(str(digits_path), {"image": images})
    np.testing.assert_array_equal(acts.outputs["logits"], want["logits"])


def test_capture_reads_every_kind_of_value(scope: Any, chain: bytes) -> None:
    """An input, an activation, an output and a weight are all hook points."""
    model = scope.load(chain)
    x = np.array([[-3.0, 0.0, 3.0]], np.float32)
    acts = model.capture(x, at=["y", "x", "one", "a"])
    assert list(acts) == ["y", "x", "one", "a"]
    assert acts["x"].tolist() == x.tolist()
    assert acts["one"].tolist() == 1.0
    assert acts["a"].tolist() == [[-2.0, 1.0, 4.0]]
    assert acts["y"].tolist() == acts.outputs["y"].tolist() == [[0.0, 2.0, 8.0]]


def test_outputs_can_be_left_out_in_every_verb(digits: Any, images: np.ndarray) -> None:
    """outputs=False brings none, with bare arrays, in capture, stream and run."""
    assert dict(digits.capture(images, at="relu1", outputs=False).outputs) == {}
    assert all(not acts.outputs for acts in digits.stream(images, at="relu1", outputs=False, batch_size=4))
    assert dict(digits.run(images, outputs=False).outputs) == {}


def test_where_a_fusion_is_blocked_the_unmodified_model_supplies_the_outputs(
    scope: Any, gelu: bytes, rng: np.random.Generator
) -> None:
    """The verdict says so, names the operator that is gone, and the outputs stay bit-equal."""
    x = rng.standard_normal((64, 4), dtype=np.float32)
    model = scope.load(gelu)
    acts = model.capture(x, at="erf")
    assert acts.fidelity.fusion_blocked
    assert any("Gelu" in operator for operator in acts.fidelity.changed_operators)
    assert acts.fidelity.max_output_difference is not None
    np.testing.assert_array_equal(acts.outputs["y"], _plain(gelu, {"x": x})["y"])
    instrumented = model.capture(x, at="erf", outputs="instrumented")
    np.testing.assert_allclose(instrumented.outputs["y"], acts.outputs["y"], atol=1e-5)


def test_exact_is_the_unoptimised_model(scope: Any, gelu: bytes, rng: np.random.Generator) -> None:
    """exact=True gives the bits of the unoptimised model."""
    x = rng.standard_normal((16, 4), dtype=np.float32)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    want = ort.InferenceSession(gelu, options, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})[0]
    model = scope.load(gelu)
    np.testing.assert_array_equal(model.capture(x, at="erf", exact=True).outputs["y"], want)


def test_capture_iter_gives_each_activation_once(digits: Any, images: np.ndarray) -> None:
    """One by one, the same as at once."""
    together = digits.capture(images, at="*")
    one_by_one = list(digits.capture_iter(images, at="*"))
    assert [address for address, _ in one_by_one] == list(together)
    for address, array in one_by_one:
        np.testing.assert_array_equal(array, together[address])


def test_stream_takes_rows_batches_and_dicts_alike(digits: Any, images: np.ndarray) -> None:
    """An array is split into batches of rows; an iterable is taken batch by batch; results keep their order."""
    whole = digits.capture(images, at="relu5")

    def batches() -> Iterator[dict[str, np.ndarray]]:
        yield {"image": images[:3]}
        yield {"image": images[3:]}

    for source, sizes in ((images, [3, 3, 1]), ({"image": images}, [3, 3, 1]), (batches(), [3, 4])):
        parts = [acts["relu5"] for acts in digits.stream(source, at="relu5", batch_size=3)]
        assert [len(part) for part in parts] == sizes
        np.testing.assert_allclose(np.concatenate(parts), whole["relu5"], rtol=1e-5, atol=1e-5)


def test_a_stream_that_is_left_early_leaves_the_scope_usable(digits: Any, images: np.ndarray) -> None:
    """Leaving a loop over a stream ends the call; the next call works."""
    for acts in digits.stream(images, at="relu1", batch_size=1):
        assert acts["relu1"].shape == (1, 16, 8, 8)
        break
    assert digits.capture(images, at="relu1")["relu1"].shape == (7, 16, 8, 8)


def test_carry_feeds_an_output_back(scope: Any, parsed: Any) -> None:
    """A running sum: what one batch ends with is where the next begins."""
    model = scope.load(
        parsed(
            """<ir_version: 9, opset_import: ["" : 18]>
            total (float[1] x, float[1] state) => (float[1] stateN) { stateN = Add(x, state) }"""
        )
    )
    one = np.ones(1, np.float32)
    batches: list[dict[str, np.ndarray]] = [{"x": one, "state": one * 10}, {"x": one}, {"x": one * 2}]
    sums = [acts["stateN"].item() for acts in model.stream(batches, at="stateN", carry={"stateN": "state"})]
    assert sums == [11.0, 12.0, 14.0]


@pytest.mark.parametrize(
    ("reduce", "want"),
    [
        ("mean", lambda a: a.mean((2, 3))),
        ("spatial_mean", lambda a: a.mean((2, 3))),
        ("max", lambda a: a.max((2, 3))),
        ("first", lambda a: a[:, :, 0, 0]),
        ("last", lambda a: a[:, :, -1, -1]),
        ("flatten", lambda a: a.reshape(len(a), -1)),
        ("norm", lambda a: np.sqrt((a * a).sum(1))),
        (onnxscope.reduce.index(1, 3), lambda a: a[:, 3]),
        (onnxscope.reduce.mean(axis=1), lambda a: a.mean(1)),
        (onnxscope.reduce.topk(2), lambda a: -np.sort(-a, -1)[..., :2]),
    ],
    ids=str,
)
def test_reductions_are_what_numpy_says(digits: Any, images: np.ndarray, reduce: Any, want: Any) -> None:
    """Each reduction in the graph equals the same on the whole activation."""
    whole = digits.capture(images, at="relu2")["relu2"]
    reduced = digits.capture(images, at="relu2", reduce=reduce)["relu2"]
    np.testing.assert_allclose(reduced, want(whole), rtol=1e-5, atol=1e-6)


def test_masks_choose_positions(scope: Any, parsed: Any) -> None:
    """A mask may be an array or the name of an input; both keep the same positions."""
    model = scope.load(
        parsed(
            """<ir_version: 9, opset_import: ["" : 18]>
            masked (float[row, pos, 2] x, int64[row, pos] keep) => (float[row, pos, 2] y, int64[row, pos] z)
            { y = Relu(x) z = Identity(keep) }"""
        )
    )
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    keep = np.array([[1, 1, 0], [1, 0, 0]], np.int64)
    feeds = {"x": x, "keep": keep}
    for mask in ("keep", keep.astype(bool)):
        last = model.capture(feeds, at="y", reduce=onnxscope.reduce.last(mask=mask))["y"]
        assert last.tolist() == [[2.0, 3.0], [6.0, 7.0]]
        mean = model.capture(feeds, at="y", reduce={"y": onnxscope.reduce.mean(mask=mask)})["y"]
        assert mean.tolist() == [[1.0, 2.0], [6.0, 7.0]]


def test_hook_points_say_where_rows_are(digits: Any) -> None:
    """The batch axis is found by running, for every activation of the CNN."""
    points = digits.hook_points()
    assert len(points) == 14
    assert {point.batch_axis for point in points} == {0}
    assert points["pool1"].op_type == "MaxPool"
    assert points["logits"].kind == "output"


def test_rows_behind_other_axes_are_found(scope: Any, parsed: Any) -> None:
    """Rows lie where the model puts them; a value without rows says None."""
    model = scope.load(
        parsed(
            """<ir_version: 9, opset_import: ["" : 18]>
            turned (float[row, 4] x) => (float[4, row] y, float s)
            { y = Transpose<perm = [1, 0]>(x)  s = ReduceSum<keepdims = 0>(y) }"""
        )
    )
    points = model.hook_points()
    assert points["y"].batch_axis == 1
    assert points["s"].batch_axis is None


def test_plan_says_what_a_capture_would_cost(digits: Any, images: np.ndarray) -> None:
    """Bytes are those that arrive, and cut nodes are not counted."""
    plan = digits.plan(images, at=["relu1", "relu2"], outputs=False)
    acts = digits.capture(images, at=["relu1", "relu2"], outputs=False)
    assert plan.known_byte_count == sum(array.nbytes for array in acts.values())
    assert plan.node_count == 4 < plan.model_node_count


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.zeros((1, 1, 8, 8)), "float32"),
        (np.zeros((1, 8, 8), np.float32), "rank|axes|shape"),
        (np.zeros((1, 1, 9, 8), np.float32), "8"),
        ({"picture": np.zeros((1, 1, 8, 8), np.float32)}, "image"),
        ({}, "image"),
    ],
)
def test_wrong_inputs_are_told_before_they_are_sent(digits: Any, x: Any, text: str) -> None:
    """Names, dtype, rank and fixed sizes are checked, with what is expected in the message."""
    with pytest.raises(onnxscope.InputMismatchError, match=text):
        digits.capture(x, at="relu1")


def test_selectors_that_match_nothing_name_the_closest(digits: Any, images: np.ndarray) -> None:
    """A misspelt address is an error that shows what was meant."""
    with pytest.raises(onnxscope.HookPointNotFoundError, match="relu1"):
        digits.capture(images, at="rellu1")


def test_what_comes_later_is_never_ignored(digits: Any, images: np.ndarray) -> None:
    """A promise that isn't built raises NotImplementedYet."""
    with pytest.raises(onnxscope.NotImplementedYet):
        digits.capture(images, at="relu1", interventions=[object()])


def test_models_are_listed_and_unloaded(scope: Any, chain: bytes) -> None:
    """Names, versions and digests; an unloaded model is gone."""
    model = scope.load(chain, name="chained", version="7")
    assert ("chained", "7", model.digest) in {(item.name, item.version, item.digest) for item in scope.models()}
    assert scope.load("chained").digest == model.digest
    scope.unload("chained")
    with pytest.raises(onnxscope.ModelNotFoundError, match="chained"):
        scope.load("chained")


def test_no_model_is_an_error_that_says_so(scope: Any) -> None:
    """Bytes that are no ONNX are refused, and leave nothing behind."""
    before = len(scope.models())
    with pytest.raises(onnxscope.ModelInvalidError):
        scope.load(b"\x89PNG\r\n\x1a\n" + b"0" * 100)
    assert len(scope.models()) == before


def test_a_fixed_batch_is_padded_and_the_padding_removed(scope: Any) -> None:
    """Seven rows through a model of three at a time: three, three, one, in arrays and in the list of maps alike."""
    path = Path(ort.__file__).parent / "datasets" / "logreg_iris.onnx"
    rows = np.random.default_rng(0).random((7, 2), dtype=np.float32)
    outputs = [acts.outputs for acts in scope.load(path).stream(rows)]
    assert [len(each["label"]) for each in outputs] == [3, 3, 1]
    assert [len(each["probabilities"]) for each in outputs] == [3, 3, 1]
    padded = np.concatenate([rows[6:]] * 3)
    want = _plain(str(path), {"float_input": padded})
    assert outputs[2]["label"].tolist() == want["label"][:1].tolist()
