"""Activations on disk: typed, bounded, whole batches or none."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from onnxscope_server.errors import DataInvalidError, LimitExceededError, UnavailableError
from onnxscope_server.store import shards
from onnxscope_server.store.activations import ActivationStore

_ROOMY = 1 << 30


def _batch(index: int, count: int = 3, features: int = 4) -> dict[str, np.ndarray]:
    base = np.arange(count * features, dtype=np.float32).reshape(count, features) + 100 * index
    return {"h1": base, "h2": (base[:, :2] / 7).astype(ml_dtypes.bfloat16), "ids": base[:, :1].astype(np.int64)}


def _shard_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


@pytest.fixture
def folder(tmp_path):
    """A folder that is not there yet."""
    return tmp_path / "data" / "store"


def test_rows_come_back_in_the_order_of_batches(folder):
    """However batches came, examples lie in the order of the batches' numbers, as float32, of every hook point."""
    store = ActivationStore(folder, "spec", _ROOMY, shard_bytes=150)
    for index in (2, 0, 3, 1):
        store.put(index, f"d{index}", _batch(index, count=index + 1))
    for name in ("h1", "h2", "ids"):
        expected = np.concatenate([_batch(i, count=i + 1)[name].astype(np.float32) for i in range(4)])
        rows = store.rows(name)
        assert rows.shape == expected.shape
        some = np.array([9, 0, 4, 4, 1])
        taken = rows.take(some)
        assert taken.dtype == np.float32
        assert np.array_equal(taken, expected[some])
        assert np.array_equal(np.concatenate(list(rows.blocks(np.arange(10), 3))), expected)
    store.delete()
    assert not folder.exists()


@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=6),
    shard_bytes=st.integers(1, 400),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_any_examples_of_any_split(tmp_path_factory, counts, shard_bytes, data):
    """Whatever the batches' and shards' sizes, `take` gives what indexing the whole array does."""
    store = ActivationStore(tmp_path_factory.mktemp("any"), "spec", _ROOMY, shard_bytes=shard_bytes)
    whole = np.random.default_rng(0).normal(size=(sum(counts), 3)).astype(np.float32)
    parts = np.split(whole, np.cumsum(counts)[:-1])
    for index in data.draw(st.permutations(range(len(counts)))):
        store.put(index, "d", {"h": parts[index]})
    numbers = st.integers(0, max(0, len(whole) - 1))
    examples = np.array(data.draw(st.lists(numbers, max_size=20 if len(whole) else 0)), np.int64)
    assert np.array_equal(store.rows("h").take(examples), whole[examples])
    store.delete()


def test_far_apart_and_neighbouring_examples_of_a_large_file(folder):
    """Reading neighbours together and far ones apart, over several windows, changes nothing."""
    store = ActivationStore(folder, "spec", _ROOMY)
    whole = np.random.default_rng(1).normal(size=(3000, 256)).astype(np.float32)
    store.put(0, "d", {"h": whole})
    random = np.random.default_rng(2)
    for count in (1, 10, 500, 2900):
        examples = random.permutation(3000)[:count]
        assert np.array_equal(store.rows("h").take(examples), whole[examples])
    store.delete()


def test_an_example_that_is_not_there(folder):
    """A number beyond the examples is refused, not read from what lies behind."""
    store = ActivationStore(folder, "spec", _ROOMY)
    store.put(0, "d", _batch(0))
    for examples in ([3], [-1]):
        with pytest.raises(IndexError):
            store.rows("h1").take(np.array(examples))
    store.delete()


@pytest.mark.parametrize("dtype", sorted(shards.HELD, key=str), ids=str)
def test_types_are_kept(folder, dtype):
    """What lies on disk has the activation's own type, and `Rows` gives float32."""
    store = ActivationStore(folder, "spec", _ROOMY)
    array = np.array([[0, 1], [1, 0]]).astype(dtype)
    store.put(0, "d", {"h": array})
    assert np.array_equal(store.rows("h").take(np.arange(2)), array.astype(np.float32))
    assert store.rows("h")._segments[0].placed.dtype == dtype
    store.delete()


def test_a_type_that_safetensors_lacks(folder):
    """int4 is kept as float32, which holds each of its values."""
    store = ActivationStore(folder, "spec", _ROOMY)
    array = np.array([[-8, 7]]).astype(ml_dtypes.int4)
    store.put(0, "d", {"h": array})
    assert store.rows("h").take(np.array([0])).tolist() == [[-8, 7]]
    store.delete()


def test_others_read_the_shards(folder):
    """A shard is what safetensors reads, each hook point under its name."""
    store = ActivationStore(folder, "spec", _ROOMY)
    store.put(0, "d0", _batch(0))
    store.put(1, "d1", _batch(1))
    store.flush()
    with safe_open(_shard_files(folder)[0], framework="np") as file:
        assert np.array_equal(file.get_tensor("h1"), np.concatenate([_batch(i)["h1"] for i in (0, 1)]))
        held = json.loads(file.metadata()["batches"])
    assert [(batch["index"], batch["digest"], batch["counts"]["h1"]) for batch in held] == [(0, "d0", 3), (1, "d1", 3)]
    store.delete()


def test_what_was_flushed_is_there_again(folder):
    """Reopened for the same specification, a store has what was flushed, and nothing else."""
    store = ActivationStore(folder, "spec", _ROOMY)
    store.put(0, "d0", _batch(0))
    store.flush()
    store.put(1, "d1", _batch(1))
    assert store.has(1, "d1")
    store.close()
    again = ActivationStore(folder, "spec", _ROOMY)
    assert again.has(0, "d0")
    assert not again.has(0, "other")
    assert not again.has(1, "d1")
    again.put(1, "d1", _batch(1))
    assert np.array_equal(again.rows("h1").take(np.arange(6)), np.concatenate([_batch(i)["h1"] for i in (0, 1)]))
    again.delete()


def test_another_specification_starts_anew(folder):
    """What the folder held for another specification goes."""
    store = ActivationStore(folder, "spec", _ROOMY)
    store.put(0, "d0", _batch(0))
    store.flush()
    store.close()
    other = ActivationStore(folder, "other", _ROOMY)
    assert not other.has(0, "d0")
    assert not _shard_files(folder)
    other.close()


def test_a_changed_batch_replaces(folder):
    """A batch of other inputs under the same number stands for the old one, now and after a restart."""
    store = ActivationStore(folder, "spec", _ROOMY)
    store.put(0, "old", _batch(0))
    store.put(0, "new", _batch(5))
    assert store.has(0, "new")
    assert not store.has(0, "old")
    store.flush()
    assert len(_shard_files(folder)) == 1  # the replaced one went
    store.close()
    again = ActivationStore(folder, "spec", _ROOMY)
    assert again.has(0, "new")
    assert np.array_equal(again.rows("h1").take(np.arange(3)), _batch(5)["h1"])
    again.delete()


def test_a_shorter_data_set(folder):
    """`truncate` forgets what a longer pass left."""
    store = ActivationStore(folder, "spec", _ROOMY, shard_bytes=1)
    for index in range(3):
        store.put(index, "d", _batch(index))
    store.truncate(2)
    assert store.rows("h1").shape == (6, 4)
    assert len(_shard_files(folder)) == 2
    store.delete()


@pytest.mark.parametrize("damage", ["cut", "flipped", "head", "empty"])
def test_damage_is_noticed(folder, damage):
    """A shard that was cut short, or of which one bit differs, is dropped; its neighbours stay."""
    store = ActivationStore(folder, "spec", _ROOMY, shard_bytes=1)
    for index in range(3):
        store.put(index, "d", _batch(index))
    store.close()
    path = _shard_files(folder)[1]
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[-1] ^= 1
    elif damage == "head":
        data[0] ^= 255
        data[5] ^= 255
    path.write_bytes({"cut": data[:-5], "empty": b""}.get(damage, data))
    again = ActivationStore(folder, "spec", _ROOMY)
    assert [again.has(index, "d") for index in range(3)] == [True, False, True]
    assert not path.exists()
    again.delete()


def test_no_room(folder):
    """A batch that would go beyond the bound is refused before anything of it is written, and the setting is named."""
    store = ActivationStore(folder, "spec", 1000)
    store.put(0, "d", _batch(0))
    store.flush()
    before = _shard_files(folder)
    with pytest.raises(LimitExceededError, match="--probe-store-bytes") as caught:
        store.put(1, "d", _batch(1, count=50))
    assert caught.value.metadata["setting"] == "probe_store_bytes"
    assert _shard_files(folder) == before
    assert store.has(0, "d")
    assert store.byte_count <= 1000
    store.delete()


def test_a_full_disk(folder, monkeypatch):
    """A full disk is a clear error, and leaves no part of a shard."""

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    store = ActivationStore(folder, "spec", _ROOMY)
    store.put(0, "d", _batch(0))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(LimitExceededError, match="full"):
            store.flush()
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "manifest.json"]
    store.flush()
    assert len(_shard_files(folder)) == 1
    store.delete()


@pytest.mark.parametrize(
    "batch",
    [
        {"h1": np.zeros((1, 4), np.float32)},
        {**_batch(0), "h1": np.zeros((3, 5), np.float32)},
        {**_batch(0), "h1": np.zeros((3, 4), np.float16)},
        {**_batch(0), "h1": np.zeros(4, np.float32)},
        {**_batch(0), "h1": np.array([["text"]], object)},
        {**_batch(0), "h1": np.zeros((3, 4), np.complex64)},
    ],
)
@pytest.mark.parametrize("flushed", [True, False])
def test_batches_are_alike(folder, batch, flushed):
    """Other hook points, types, features, or what is no number, are refused by name."""
    store = ActivationStore(folder, "spec", _ROOMY)
    store.put(0, "d", _batch(0))
    if flushed:
        store.flush()
    with pytest.raises(DataInvalidError, match=r"h1|h2"):
        store.put(1, "d", batch)
    store.delete()


def test_an_unknown_hook_point(folder):
    """Rows of what was not captured, or of nothing, are a clear error."""
    store = ActivationStore(folder, "spec", _ROOMY)
    with pytest.raises(DataInvalidError, match="h1"):
        store.rows("h1")
    store.put(0, "d", _batch(0))
    with pytest.raises(DataInvalidError, match="h9"):
        store.rows("h9")
    store.delete()


def test_one_at_a_time(folder):
    """A second store in the same folder is refused until the first is closed."""
    store = ActivationStore(folder, "spec", _ROOMY)
    with pytest.raises(UnavailableError, match="in use"):
        ActivationStore(folder, "spec", _ROOMY)
    store.close()
    store.close()
    ActivationStore(folder, "spec", _ROOMY).delete()


def test_a_batch_is_copied(folder):
    """Whoever put a batch may write over its memory at once."""
    store = ActivationStore(folder, "spec", _ROOMY)
    batch = _batch(0)
    store.put(0, "d", batch)
    batch["h1"][:] = -1
    assert np.array_equal(store.rows("h1").take(np.arange(3)), _batch(0)["h1"])
    store.delete()


def test_reading_while_more_is_put(folder):
    """Threads read what was there while another adds batches."""
    store = ActivationStore(folder, "spec", _ROOMY, shard_bytes=1)
    store.put(0, "d", _batch(0))
    rows = store.rows("h1")
    wrong = []

    def read():
        wrong.extend(1 for _ in range(50) if not np.array_equal(rows.take(np.arange(3)), _batch(0)["h1"]))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for index in range(1, 5):
        store.put(index, "d", _batch(index))
    for thread in threads:
        thread.join()
    assert not wrong
    store.delete()


_WRITER = """
import sys
from pathlib import Path
import numpy as np
from onnxscope_server.store.activations import ActivationStore
store = ActivationStore(Path(sys.argv[1]), "spec", 1 << 30, shard_bytes=40_000)
for index in range(100_000):
    store.put(index, f"d{index}", {"h": np.full((5, 500), index, np.float32)})
    if index == 40:
        print("going", flush=True)
"""


def test_killed_at_any_moment(folder):
    """After kill -9 the store opens at once, and every batch that it says is whole is."""
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", _WRITER, str(folder)], stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
        store = ActivationStore(folder, "spec", _ROOMY)
        count = next(index for index in range(100_000) if not store.has(index, f"d{index}"))
        assert count >= 36
        rows = store.rows("h")
        assert rows.shape == (5 * count, 500)
        assert np.array_equal(rows.take(np.arange(5 * count))[:, 0], np.repeat(np.arange(count), 5))
        assert not list(folder.glob("*.part"))
        store.close()
