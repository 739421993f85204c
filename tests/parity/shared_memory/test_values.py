"""Shared memory between two processes: the same values, whoever writes to them and whether they are shared or sent."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from tests.parity.shared_memory.observed import Servers, check, expected, is_shared

import onnxscope
import onnxscope.aio
from onnxscope.channel import Address, GrpcLink
from onnxscope.encode import SentValue
from onnxscope.receive import Arrived, Completed, Receiver
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1 import sharing
from onnxscope.v1.tensor_pb2 import VALUE_ROLE_INPUT
from onnxscope_server.wire import shared_memory


def test_large_values_are_shared_and_small_ones_sent(server: str, chain: bytes, x: np.ndarray) -> None:
    """From the first call on, copied and then written by onnxruntime; without, and below 64 KiB, over the network."""
    with onnxscope.connect(server) as scope, onnxscope.connect(server, shared_memory=False) as apart:
        model = scope.load(chain)
        for _ in range(3):
            acts = model.capture(x, at="*")
            assert all(map(is_shared, [*acts.values(), acts.outputs["y"]]))
            check(acts, x)
        few = model.capture(x[:10], at="*")
        assert not any(map(is_shared, few.values()))
        acts = apart.load(chain).capture(x, at="*")
        assert not any(map(is_shared, acts.values()))
        check(acts, x)


async def _aio(target: str, model: bytes, x: np.ndarray) -> list[Any]:
    async with onnxscope.aio.connect(target) as scope:
        loaded = await scope.load(model)
        got = [await loaded.capture(x, at="*") for _ in range(3)]
        return [*got, *[acts async for acts in loaded.stream(iter([x, x]), at="*")]]


def test_coroutines_share_too(server: str, chain: bytes, x: np.ndarray) -> None:
    """The same values, captured and streamed, and kept after the scope is closed."""
    got = asyncio.run(_aio(server, chain, x))
    assert len(got) == 5
    for acts in got:
        assert all(map(is_shared, acts.values()))
        check(acts, x)


def test_arrays_are_the_callers_own(server: str, chain: bytes, x: np.ndarray) -> None:
    """Writing to one changes no other: not the output that is the same value, not an earlier nor a later result."""
    with onnxscope.connect(server) as scope:
        model = scope.load(chain)
        kept = []
        for _ in range(4):
            acts = model.capture(x, at="*")
            check(acts, x)
            for value in acts.values():
                value[:] = -1
            np.testing.assert_array_equal(acts.outputs["y"], expected(x)["y"])
            kept.append(acts)
        for acts in kept:
            assert all((value == -1).all() for value in acts.values())


def test_who_writes_at_once_disturbs_no_run(server: str, rng: np.random.Generator, parsed: Any) -> None:
    """What a later segment, a carried state or a comparison of outputs reads, the caller cannot reach."""
    lines = "".join(f"v{i} = Add(v{i - 1}, one)  " for i in range(1, 12))
    model = parsed(
        f"""<ir_version: 9, opset_import: ["" : 18]>
        long (float[250000, 4] x, float[250000, 4] state) => (float[250000, 4] y, float[250000, 4] stateN)
        <float one = {{1.0}}> {{ v0 = Add(x, state)  {lines} y = Erf(v11)  stateN = Add(state, one) }}"""
    )
    x = rng.random((250_000, 4), dtype=np.float32)
    state = np.zeros_like(x)
    with onnxscope.connect(server) as scope:
        loaded = scope.load(model)
        for _ in range(3):
            for address, value in loaded.capture_iter({"x": x, "state": state}, at="*"):
                if address.startswith("v"):
                    np.testing.assert_allclose(value, x + int(address[1:]), rtol=1e-5)
                value[:] = np.nan
        seen = []
        for acts in loaded.stream(({"x": x, "state": state} if not i else {"x": x} for i in range(4)), at="*",
                                  carry={"stateN": "state"}, batch_size=len(x)):  # fmt: skip
            seen.append(float(acts.outputs["stateN"][0, 0]))
            for value in [*acts.values(), *acts.outputs.values()]:
                value[:] = np.nan
        assert seen == [1, 2, 3, 4]


def test_outputs_are_compared_before_anybody_writes_to_them(server: str, gelu: bytes, rng: np.random.Generator) -> None:
    """The difference that watching makes is the same, though the caller overwrites each value as it arrives."""
    x = rng.standard_normal((50_000, 4), dtype=np.float32)
    with onnxscope.connect(server) as scope:
        digest = scope.load(gelu).digest
    spec = pb.CaptureSpec(model=digest, selectors=["*"])
    found = []
    for shared in (False, True):
        link = GrpcLink(Address(server), shared_memory=shared)
        for _ in range(3):
            for event in link.capture(spec, [SentValue(VALUE_ROLE_INPUT, "x", x)], timeout=None):
                if isinstance(event, Arrived):
                    assert is_shared(event.value) is shared
                    event.value[:] = np.nan
                elif isinstance(event, Completed):
                    found.append(event.fidelity.max_output_difference)
        link.close()
    assert len(set(found)) == 1
    assert found[0] is not None
    assert np.isfinite(found[0])


@pytest.mark.parametrize("rows", [10_000, 400_000])
def test_who_waits_for_the_whole_is_told_of_it_once(
    server: str, chain: bytes, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """In one message from the second call on, however large; the first, which is copied, is not held up by that."""
    x = rng.random((rows, 3), dtype=np.float32)
    messages: list[Any] = []
    feed = Receiver.feed

    def noting(self: Receiver, response: Any, *rest: Any) -> Any:
        messages.append(response)
        return feed(self, response, *rest)

    monkeypatch.setattr(Receiver, "feed", noting)
    with onnxscope.connect(server) as scope:
        model = scope.load(chain)
        for _ in range(4):
            messages.clear()
            check(model.capture(x, at="*"), x)
        assert len(messages) == 1


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_where_the_limit_is_reached_values_are_sent(
    running_server: Servers, chain: bytes, x: np.ndarray, limit: int
) -> None:
    """The same call, the same result; with nothing to share the server says so."""
    with running_server(shared_memory_bytes=limit) as target, onnxscope.connect(target) as scope:
        model = scope.load(chain)
        held = [model.capture(x, at="*") for _ in range(4)]
        for acts in held:
            check(acts, x)
        shared = sum(is_shared(value) for acts in held for value in (*acts.values(), *acts.outputs.values()))
        # one block may be lent for inputs
        assert limit // (1000 << 10) <= shared <= limit // (500 << 10)


def test_a_process_of_another_user_shares_nothing(
    server: str, chain: bytes, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is served all the same."""
    monkeypatch.setattr(sharing, "same_user", lambda _: False)
    with onnxscope.connect(server) as scope:
        acts = scope.load(chain).capture(x, at="*")
    assert not any(map(is_shared, acts.values()))
    check(acts, x)


def test_where_there_is_no_such_memory(
    server: str, chain: bytes, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On other systems neither side tries."""
    monkeypatch.setattr(sharing, "IS_SUPPORTED", False)
    assert shared_memory.SharedMemory(1 << 20).offer() is None
    monkeypatch.setattr("onnxscope.sharing.IS_SUPPORTED", False)
    with onnxscope.connect(server) as scope:
        acts = scope.load(chain).capture(x, at="*")
    assert not any(map(is_shared, acts.values()))
    check(acts, x)
