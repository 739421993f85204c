"""Scopes and models over gRPC, against a server that echoes."""

from __future__ import annotations

import threading
import time
from itertools import count, islice

import numpy as np
import pytest

import onnxscope
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1 import model_service_pb2 as model_pb

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def scope(fake):
    """A scope on the server that echoes."""
    with onnxscope.connect(fake.target, token="secret", timeout=10) as opened:
        yield opened


@pytest.fixture
def echo(scope):
    """Its model."""
    return scope.load("echo")


def test_connect_is_lazy():
    """Nothing is opened before the first call, which names the target that is not there."""
    scope = onnxscope.connect("127.0.0.1:9", timeout=5)
    with pytest.raises(onnxscope.UnavailableError, match=r"127\.0\.0\.1:9.*onnxscope serve") as caught:
        scope.models()
    assert isinstance(caught.value, ConnectionError)
    scope.close()


def test_the_token_goes_with_every_call(fake, echo):
    """Unary calls and streams carry it as a bearer."""
    echo.capture(ROWS, "h")
    assert set(fake.tokens) == {"Bearer secret"}


def test_a_closed_scope_says_so(fake):
    """A call after `close` is refused with what to do."""
    scope = onnxscope.connect(fake.target)
    model = scope.load("echo")
    scope.close()
    with pytest.raises(onnxscope.UnavailableError, match=r"closed.*connect"):
        model.run(ROWS)
    with pytest.raises(onnxscope.UnavailableError, match=r"closed"):
        scope.models()


def test_models_are_listed_over_pages_and_unloaded(fake, scope, make_model):
    """Every page is read; `unload` takes a name or a model."""
    fake.models["other"] = make_model(name="other")
    listed = scope.models()
    assert [item.name for item in listed] == ["echo", "other"]
    assert "other" in listed
    assert scope.unload("other") == 1
    assert scope.unload(scope.load("echo")) == 1
    assert len(scope.models()) == 0


def test_a_name_that_is_nowhere_is_not_found_as_either(scope):
    """The error says that it is neither in the catalog nor a file."""
    with pytest.raises(onnxscope.ModelNotFoundError, match=r"no nowhere; nor is there a file 'nowhere'") as caught:
        scope.load("nowhere")
    assert caught.value.metadata == {"model": "nowhere"}


def test_load_sends_bytes_once(fake, scope):
    """A model goes in chunks; one whose digest is known is not sent."""
    data = bytes(range(256)) * 10_000
    assert scope.load(data, name="mine").name == "mine"
    assert fake.files[""] == data
    fake.files.clear()
    fake.known_digests.add("bef57ec7f53a6d40beb640a780a639c83bc29ac8a9816f1fc6c5c6dcd93c4721")
    scope.load(b"abcdef", name="mine")
    assert fake.files == {}


def test_load_sends_external_data(fake, scope, tmp_path):
    """Files that the graph names and the folder holds are sent as asked."""
    (tmp_path / "m.onnx").write_bytes(b"graph weights.bin")
    (tmp_path / "weights.bin").write_bytes(b"w" * 3_000_000)
    fake.wanted_files = ["weights.bin"]
    scope.load(tmp_path / "m.onnx")
    assert fake.files["weights.bin"] == b"w" * 3_000_000


def test_an_upload_that_must_not_be_is_ended(fake, scope, tmp_path):
    """A file outside of the folder is not sent, and the caller gets the reason, not gRPC's."""
    (tmp_path / "m.onnx").write_bytes(b"graph ../secret")
    (tmp_path.parent / "secret").write_bytes(b"secret")
    fake.wanted_files = ["../secret"]
    with pytest.raises(onnxscope.ExternalDataMissingError, match=r"outside of its own folder"):
        scope.load(tmp_path / "m.onnx")
    assert "../secret" not in fake.files


def test_an_upload_that_is_refused_or_cut_raises(scope):
    """The server's reason arrives; an answer without `completed` is cut."""
    with pytest.raises(onnxscope.ModelExistsError):
        scope.load(b"x" * 5_000_000, name="busy")
    with pytest.raises(onnxscope.StreamCutError):
        scope.load(b"x", name="cut")


def test_capture_brings_activations_in_plan_order(echo):
    """Values are sorted by the plan, with outputs, timings and fidelity beside them."""
    acts = echo.capture(ROWS, ["b", "a"])
    assert list(acts) == ["b", "a"]
    np.testing.assert_array_equal(acts["a"], ROWS + 1)
    np.testing.assert_array_equal(acts.outputs["y"], ROWS + 1)
    assert acts.timings == {"run": 0.25}
    assert acts.fidelity.fusion_blocked


def test_a_small_capture_is_one_message_and_a_large_one_chunks(fake, echo):
    """Spec and small inputs travel together; no message nears 4 MiB."""
    echo.capture(ROWS, "a")
    assert len(fake.message_sizes) == 1
    fake.message_sizes.clear()
    large = np.random.default_rng(0).random((500_000, 3)).astype(np.float32)
    acts = echo.capture(large, "a", outputs=False)
    np.testing.assert_array_equal(acts["a"], large + 1)
    assert len(acts.outputs) == 0
    assert len(fake.message_sizes) > 4
    assert max(fake.message_sizes) < 1.2 * (1 << 20)


def test_what_is_asked_is_in_the_spec(fake, echo):
    """Selectors, outputs, exact, and a mask of the caller's reach the server."""
    mask = np.ones((2, 3), bool)
    echo.capture(ROWS, ["a"], reduce=onnxscope.reduce.mean(mask=mask), outputs="instrumented", exact=True)
    asked = fake.specs[-1]
    assert asked.outputs == pb.OUTPUT_MODE_INSTRUMENTED
    assert asked.exact
    assert asked.reductions[0].reduction.mask_value == "mask_0"
    np.testing.assert_array_equal(fake.received[-1]["mask_0"], mask)


def test_inputs_are_checked_before_anything_is_sent(fake, echo):
    """A wrong dtype never reaches the server."""
    with pytest.raises(onnxscope.InputMismatchError, match=r"astype\('float32'\)"):
        echo.capture(ROWS.astype(np.float64), "a")
    assert fake.received == []


def test_capture_iter_yields_as_values_arrive(echo):
    """Address and array come one by one; outputs only when asked for."""
    assert [name for name, _ in echo.capture_iter(ROWS, ["a", "b"])] == ["a", "b"]
    assert {name for name, _ in echo.capture_iter(ROWS, ["a"], outputs=True)} == {"a", "y"}


def test_leaving_capture_iter_ends_the_call(fake, echo):
    """A generator that is closed cancels the RPC."""
    arrivals = echo.capture_iter(ROWS, ["a", "slow"], timeout=None)
    stopper = threading.Timer(0.1, fake.release.set)
    stopper.start()
    next(arrivals)
    arrivals.close()
    assert fake.cancelled.wait(5)
    stopper.join()


def test_run_brings_outputs_alone(fake, echo):
    """A run captures nothing, and takes `outputs=False` too."""
    assert list(echo.run(ROWS).outputs) == ["y"]
    assert fake.specs[-1].selectors == []
    assert list(echo.run({"x": ROWS}, outputs=False).outputs) == []


def test_a_deadline_is_a_timeout(fake, echo):
    """The call's timeout goes before the scope's, and is a TimeoutError."""
    with pytest.raises(onnxscope.DeadlineExceededError, match="timeout=") as caught:
        echo.capture(ROWS, "slow", timeout=0.1)
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(onnxscope.DeadlineExceededError), onnxscope.connect(fake.target, timeout=0.1) as hurried:
        hurried.load("echo").capture(ROWS, "slow")


def test_an_answer_without_completed_was_cut(echo):
    """Neither a capture nor a stream that ends early passes for whole."""
    with pytest.raises(onnxscope.StreamCutError):
        echo.capture(ROWS, "cut")
    with pytest.raises(onnxscope.StreamCutError):
        list(echo.stream([ROWS], "cut"))


def test_a_value_that_is_planned_and_not_sent_is_noticed(echo):
    """A server that completes without all values is broken."""
    with pytest.raises(onnxscope.InternalError, match="forgotten"):
        echo.capture(ROWS, "forgotten")


def test_garbage_from_the_server_is_an_error_of_the_tree(echo):
    """Bytes that contradict their layout don't surface as codec errors."""
    with pytest.raises(onnxscope.InternalError, match="cannot be read"):
        echo.capture(ROWS, "broken")


def test_the_servers_reason_becomes_its_class(echo):
    """ErrorInfo of the trailing metadata decides, also within a stream."""
    with pytest.raises(onnxscope.RunFailedError, match="the run failed") as caught:
        echo.capture(ROWS, "refused")
    assert caught.value.metadata == {"detail": "shapes"}
    with pytest.raises(onnxscope.RunFailedError):
        list(echo.stream([ROWS], "refused"))


def test_a_stream_gives_a_result_a_batch(echo):
    """Each batch has its own result, in order, down to no batch at all."""
    batches = [ROWS + step for step in range(4)]
    results = list(echo.stream(iter(batches), "a"))
    for batch, acts in zip(batches, results, strict=True):
        np.testing.assert_array_equal(acts["a"], batch + 1)
    assert list(echo.stream([], "a")) == []


def test_a_stream_cuts_an_array(fake, echo):
    """An array goes in pieces of batch_size rows, and progress hears of it."""
    heard = []
    results = list(
        echo.stream(
            np.zeros((7, 3), np.float32), "a", batch_size=3, progress=lambda done, total: heard.append((done, total))
        )
    )
    assert [len(acts["a"]) for acts in results] == [3, 3, 1]
    assert heard == [(3, 7), (6, 7), (7, 7)]


def test_a_stream_pulls_no_further_than_there_is_room(echo):
    """A caller that stops reading stops the pulling of batches: memory stays bounded."""
    pulled = []

    def endless():
        for step in count():
            pulled.append(step)
            yield np.zeros((100_000, 3), np.float32)  # 1.2 MB each way

    results = echo.stream(endless(), "a", outputs=False)
    list(islice(results, 2))
    deadline = time.monotonic() + 5
    seen = -1
    while seen != len(pulled) and time.monotonic() < deadline:
        seen = len(pulled)
        time.sleep(0.3)
    assert len(pulled) < 40
    results.close()
    time.sleep(0.1)
    ended = len(pulled)
    time.sleep(0.2)
    assert len(pulled) == ended


def test_what_a_batch_raises_arrives_as_it_is(echo):
    """An error of the caller's own iterator, or of a check within it, is raised where the stream is read."""

    def failing():
        yield ROWS
        raise KeyError("mine")

    stream = echo.stream(failing(), "a")
    with pytest.raises(KeyError, match="mine"):
        list(stream)
    with pytest.raises(onnxscope.InputMismatchError, match="2 axes"):
        list(echo.stream(iter([ROWS, ROWS[0]]), "a"))


def test_a_fixed_batch_is_padded_and_the_padding_removed(fake, scope, make_model, make_spec):
    """Five rows through a batch of two: the last row is repeated, and nobody sees it."""
    fake.models["fixed"] = make_model(make_spec("x", shape=(2, 3)), name="fixed")
    fake.points = [model_pb.HookPoint(address="a", batch_axis=0), model_pb.HookPoint(address="y")]
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    results = list(scope.load("fixed").stream(rows, "a"))
    assert [len(sent["x"]) for sent in fake.received] == [2, 2, 2]
    np.testing.assert_array_equal(fake.received[-1]["x"], rows[[4, 4]])
    np.testing.assert_array_equal(np.concatenate([acts["a"] for acts in results]), rows + 1)
    np.testing.assert_array_equal(np.concatenate([acts.outputs["y"] for acts in results]), rows + 1)


def test_hook_points_are_read_over_pages(fake, echo):
    """All pages are one list."""
    fake.points = [model_pb.HookPoint(address=f"h{index}", depth=index / 5) for index in range(5)]
    assert echo.hook_points().addresses == ("h0", "h1", "h2", "h3", "h4")


def test_a_plan_binds_shapes(echo):
    """Shapes may be given, taken from arrays, or left open."""
    assert echo.plan((7, 3), "a").known_byte_count == 21
    assert echo.plan({"x": ROWS}, "a").known_byte_count == 6
    assert echo.plan(at="a").known_byte_count == 0
    assert "1 nodes run" in str(echo.plan(at="a"))


@pytest.mark.parametrize(
    ("asked", "feature"),
    [
        ({"interventions": [object()]}, "interventions"),
    ],
)
def test_what_is_promised_is_refused_and_not_ignored(fake, echo, asked, feature):
    """Every verb says which feature is missing, before anything is sent."""
    for verb in (echo.capture, echo.capture_iter, echo.stream, echo.plan):
        with pytest.raises(onnxscope.NotImplementedYet) as caught:
            verb(ROWS, "a", **asked)
        assert caught.value.metadata == {"feature": feature}
    assert fake.specs == []


def test_local_without_the_server_says_what_to_install(monkeypatch):
    """The client alone has no embedded server."""
    monkeypatch.setitem(__import__("sys").modules, "onnxscope.embedded", None)
    with pytest.raises(ModuleNotFoundError, match=r"onnxscope\[server\]"):
        onnxscope.local()
    with pytest.raises(ModuleNotFoundError, match=r"fit_probe\(\) runs the server.*onnxscope\[server\]"):
        onnxscope.fit_probe(ROWS, [0, 1])
