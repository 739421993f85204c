"""Probes in the catalog: kept as files, found again, bounded, and never another model's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from tests.served_probes import Linear

from onnxscope_server import errors
from onnxscope_server.catalog.catalog import Catalog
from onnxscope_server.catalog.probes import ProbeLimits, Probes
from onnxscope_server.domain import Reduction, ReductionKind
from onnxscope_server.probe_domain import KeptProbe, ProbeInfo, ProbeKind, Task

DIGEST = "ab" * 32
ODD = (
    "a",
    "A",
    "sweep/block::0/conv 1",
    "../../etc/passwd",
    "con",
    ".hidden",
    "ünïcode 日本",
    "x" * 3000,
    "a~b",
    "a*?",
)


def read(data: bytes) -> ProbeInfo | None:
    """Reads the little that these tests write: name, model and address."""
    said = {prop.key: prop.value for prop in onnx.ModelProto.FromString(data).metadata_props}
    if "address" not in said:
        return None
    reduction = Reduction(ReductionKind(said["reduction"])) if "reduction" in said else None
    return ProbeInfo(said["name"], said["model"], said["address"], reduction, ProbeKind.ONNX, Task.UNSUPERVISED)


def probe(name: str, seed: int = 0, model: str = DIGEST, **more: str) -> KeptProbe:
    """A linear probe of h1."""
    data = Linear.drawn(3, seed=seed).onnx(name=name, model=model, address="h1", **more)
    info = read(data)
    assert info is not None
    return KeptProbe(info, data, "", ("labels", "scores"))


@pytest.fixture
def probes(tmp_path: Path) -> Probes:
    """No probes yet."""
    return Probes(tmp_path, read)


def test_whatever_their_names_probes_are_found_after_a_restart(probes: Probes, tmp_path: Path) -> None:
    """Names that file systems don't have, or take for one; each file stays inside of the model's folder."""
    kept = {name: probe(name, seed, reduction="mean") for seed, name in enumerate(ODD)}
    for one in kept.values():
        probes.put(DIGEST, one)
    again = Probes(tmp_path, read)
    assert [entry.info.name for entry in again.list(DIGEST)] == sorted(ODD)
    for name, one in kept.items():
        found = again.get(DIGEST, name)
        assert (found.onnx, found.info, found.outputs) == (one.onnx, one.info, ("labels", "scores"))
        assert found.digest == probes.entry(DIGEST, name).digest
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent for path in files} == {tmp_path / DIGEST}
    assert len({path.name.lower() for path in files}) == len(ODD)


def test_one_of_the_same_name_is_replaced_only_where_that_is_asked_for(probes: Probes) -> None:
    """And where it goes, its file goes too."""
    probes.put(DIGEST, probe("p"))
    with pytest.raises(errors.ProbeExistsError, match="overwrite"):
        probes.put(DIGEST, probe("p", 1))
    first = probes.entry(DIGEST, "p")
    second = probes.put(DIGEST, probe("p", 1), overwrite=True)
    assert probes.get(DIGEST, "p").onnx == probe("p", 1).onnx
    with pytest.raises(errors.ProbeNotFoundError, match="overwritten"):
        probes.file(DIGEST, "p", first.digest)
    assert probes.file(DIGEST, "p", second.digest) == probe("p", 1).onnx
    probes.delete(DIGEST, "p")
    assert not second.path.exists()
    for method in (probes.get, probes.entry, probes.delete):
        with pytest.raises(errors.ProbeNotFoundError, match="there are none"):
            method(DIGEST, "p")


def test_a_probe_of_another_model_is_refused(probes: Probes) -> None:
    """Its file says which one it is of."""
    with pytest.raises(errors.ProbeInvalidError, match="made for the model"):
        probes.put(DIGEST, probe("p", model="cd" * 32))
    assert not probes.list(DIGEST)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 5000])
def test_names_that_are_none_are_refused(probes: Probes, name: str) -> None:
    """Empty, too long, or with characters that nobody can read."""
    with pytest.raises(errors.ValueInvalidError, match="name"):
        probes.put(DIGEST, replace(probe("p"), info=replace(probe("p").info, name=name)))


def _fill(probes: Probes) -> None:
    for name in "pqr":
        probes.put(DIGEST, probe(name))
        probes.put(DIGEST, probe(name, 1), overwrite=True)


def test_limits_name_their_setting(tmp_path: Path) -> None:
    """One that is too large, too many bytes together, too many probes; what replaces another counts once."""
    size = len(probe("p").onnx)
    for number, (limits, setting) in enumerate(
        (
            (ProbeLimits(max_probe_bytes=size - 1), "max_probe_bytes"),
            (ProbeLimits(probe_bytes=2 * size), "probe_bytes"),
            (ProbeLimits(max_probes=2), "max_probes"),
        )
    ):
        probes = Probes(tmp_path / str(number), read, limits)
        with pytest.raises(errors.LimitExceededError) as refused:
            _fill(probes)
        assert refused.value.metadata["setting"] == setting


def test_what_is_no_probe_is_left_out_at_the_start(
    probes: Probes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Garbage, a file that says nothing, one that lies in the wrong place; half a file of a crash goes."""
    entry = probes.put(DIGEST, probe("p"))
    folder = entry.path.parent
    (folder / "garbage.onnx").write_bytes(b"garbage")
    (folder / "silent.onnx").write_bytes(Linear.drawn(3).onnx())
    (folder / "moved.onnx").write_bytes(entry.path.read_bytes())
    (folder / ".1234.part").write_bytes(b"half")
    again = Probes(tmp_path, read)
    assert [one.info.name for one in again.list(DIGEST)] == ["p"]
    assert sum("moved.onnx" in text or "silent.onnx" in text or "garbage.onnx" in text for text in caplog.messages) == 3
    assert not (folder / ".1234.part").exists()


def test_a_file_that_was_changed_is_not_served(probes: Probes) -> None:
    """The digest of what a plan was made for must be that of what runs."""
    entry = probes.put(DIGEST, probe("p"))
    entry.path.write_bytes(probe("p", 1).onnx)
    with pytest.raises(errors.ProbeNotFoundError, match="changed"):
        probes.get(DIGEST, "p")


def test_threads_see_whole_probes(probes: Probes) -> None:
    """While some overwrite and delete, others list and read."""
    wrong: list[Exception] = []

    def change() -> None:
        for seed in range(20):
            probes.put(DIGEST, probe("p", seed), overwrite=True)
            probes.list(DIGEST)

    def look() -> None:
        for _ in range(60):
            try:
                assert probes.get(DIGEST, "p").onnx
            except errors.ProbeNotFoundError:
                pass
            except Exception as error:  # noqa: BLE001  # of whatever kind: it is told below
                wrong.append(error)

    threads = [threading.Thread(target=work) for work in (change, change, look, look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.fixture
def reading(tmp_path: Path) -> Callable[[], Catalog]:
    """Opens a catalog that reads probes."""
    return lambda: Catalog(tmp_path / "data", max_model_bytes=1 << 30, read_probe=read)


def test_probes_go_with_the_last_name_of_their_model(
    reading: Callable[[], Catalog], tmp_path: Path, mlp: bytes
) -> None:
    """And not before, nor when the process ends."""
    path = tmp_path / "m.onnx"
    path.write_bytes(mlp)
    catalog = reading()
    digest = catalog.add_file(path, "one", "", lambda _: None).digest
    catalog.add_file(path, "two", "", lambda _: None)
    catalog.probes.put(digest, probe("p", model=digest))
    catalog.unload("one")
    catalog.close()
    catalog = reading()
    assert [entry.info.name for entry in catalog.probes.list(digest)] == ["p"]
    catalog.unload("two")
    assert not catalog.probes.list(digest)
    assert not list((tmp_path / "data" / "probes").rglob("*.onnx"))
    catalog.close()


def test_probes_of_the_models_folder_are_read_only(
    reading: Callable[[], Catalog], tmp_path: Path, mlp: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of DIR/NAME/probes are the version's that they name; others are left out, and logged."""
    folder = tmp_path / "models"
    (folder / "m" / "1").mkdir(parents=True)
    (folder / "m" / "1" / "model.onnx").write_bytes(mlp)
    catalog = reading()
    digest = catalog.add_file(folder / "m" / "1" / "model.onnx", "same", "", lambda _: None).digest
    (folder / "m" / "probes").mkdir()
    (folder / "m" / "probes" / "any.onnx").write_bytes(probe("named/p", model=digest).onnx)
    (folder / "m" / "probes" / "file.onnx").write_bytes(probe("", model=digest).onnx)
    (folder / "m" / "probes" / "other.onnx").write_bytes(probe("q").onnx)
    assert not catalog.scan_models_folder(folder, lambda _: None)
    assert [entry.info.name for entry in catalog.probes.list(digest)] == ["file", "named/p"]
    assert "other.onnx is left out" in caplog.text
    with pytest.raises(errors.ModelReadOnlyError):
        catalog.probes.delete(digest, "file")
    with pytest.raises(errors.ModelReadOnlyError):
        catalog.probes.put(digest, probe("file", model=digest), overwrite=True)
    catalog.close()
