"""The catalog as a whole: restarts, unloading, files in place, the models folder, many threads."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest

from onnxscope_server.catalog.catalog import Catalog
from onnxscope_server.errors import (
    ExternalDataMissingError,
    ModelExistsError,
    ModelInvalidError,
    ModelNotFoundError,
    ModelReadOnlyError,
    UnavailableError,
)


def load(model):
    """Loads a model as the trial load does."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if model.data_folder:
        key = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(key, str(model.data_folder))
    try:
        return onnxruntime.InferenceSession(model.graph_bytes, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelInvalidError(str(error), detail="") from error


def run(model):
    """Runs a model of `external` on zeros: it gives its weights."""
    return load(model).run(None, {"x": np.zeros(1024, np.float32)})[0]


@pytest.fixture
def folder(tmp_path):
    """A folder for model files."""
    made = tmp_path / "files"
    made.mkdir()
    return made


def write(path, data):
    """Writes a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_models_and_names_survive_a_restart(open_catalog, folder, mlp, large, accept):
    """What was there is there again, with its versions, times and weights."""
    catalog = open_catalog()
    catalog.add_file(write(folder / "a.onnx", mlp), "a", "", accept)
    catalog.add_file(write(folder / "b.onnx", large), "b", "beta", accept)
    before = catalog.entries()
    after = open_catalog()
    assert after.entries() == before
    load(after.resolve("b")[1])
    assert after.resolve("a")[1].graph_bytes == mlp


def test_a_crash_leaves_nothing_behind(open_catalog, folder, mlp, accept, tmp_path, caplog):
    """Half an upload, a model without a name, a damaged one and a name without a model are gone after a restart."""
    catalog = open_catalog()
    catalog.add_file(write(folder / "a.onnx", mlp), "a", "", accept)
    catalog.begin_upload("0" * 64, 10)
    data = tmp_path / "data"
    orphan = data / "models" / ("1" * 64)
    shutil.copytree(data / "models" / catalog.resolve("a")[0].digest, orphan)
    manifest = json.loads((orphan / "manifest.json").read_text())
    (orphan / "manifest.json").write_text(json.dumps(manifest | {"digest": "1" * 64}))
    (data / "models" / ("2" * 64)).mkdir()
    listed = json.loads((data / "names.json").read_text())
    listed["names"].append({"name": "gone", "version": "1", "digest": "3" * 64, "load_time": 0})
    (data / "names.json").write_text(json.dumps(listed))
    again = open_catalog()
    assert [entry.name for entry in again.entries()] == ["a"]
    assert list((data / "staging").iterdir()) == []
    assert len(list((data / "models").iterdir())) == 1
    assert "'gone'" in caplog.text
    assert "not a complete model" in caplog.text


def test_a_names_file_that_cannot_be_read_is_no_catastrophe(open_catalog, tmp_path, caplog):
    """The server starts, and says what it ignores."""
    open_catalog()
    (tmp_path / "data" / "names.json").write_text("{")
    assert open_catalog().entries() == []
    assert "names.json cannot be read" in caplog.text


def test_two_processes_cannot_share_a_folder(catalog, tmp_path):
    """The second one is told what to do."""
    with pytest.raises(UnavailableError, match=r"in use by another onnxscope process.*--data"):
        Catalog(tmp_path / "data", max_model_bytes=1)


def test_unloading_deletes_the_bytes_with_the_last_name(catalog, folder, large, accept, tmp_path):
    """A session that has the weights mapped goes on; the folder goes when no name is left."""
    path = write(folder / "m.onnx", large)
    catalog.add_file(path, "a", "", accept)
    catalog.add_file(path, "b", "", accept)
    session = load(catalog.resolve("a")[1])
    assert catalog.unload("a") == 1
    assert catalog.resolve("b")
    digest = catalog.resolve("b")[0].digest
    assert catalog.unload(digest) == 1
    assert list((tmp_path / "data" / "models").iterdir()) == []
    x = np.ones((1024, 768), np.float32)
    assert session.run(None, {"x": x})[0].shape == (768, 1024)
    with pytest.raises(ModelNotFoundError):
        catalog.unload("b")


def test_one_version_can_be_unloaded(catalog, folder, mlp, large, accept):
    """The others stay."""
    catalog.add_file(write(folder / "a.onnx", mlp), "m", "", accept)
    catalog.add_file(write(folder / "b.onnx", large), "m", "", accept)
    assert catalog.unload("m", "2") == 1
    assert catalog.resolve("m")[0].version == "1"


def test_a_file_with_external_data_stays_in_place(open_catalog, folder, external, weights, accept, tmp_path, sha256):
    """Nothing is copied, its name goes with the process, and its digest is the one an upload would give."""
    catalog = open_catalog()
    write(folder / "w.bin", weights)
    entry = catalog.add_file(write(folder / "m.onnx", external()), "m", "", load)
    model = catalog.resolve("m")[1]
    assert model.data_folder == folder.resolve()
    assert entry.digest == sha256(f"graph {sha256(external())}\n{sha256(weights)} w.bin\n".encode())
    assert run(model)[5] == 5
    assert list((tmp_path / "data" / "models").iterdir()) == []
    assert catalog.unload("m") == 1
    assert catalog.entries() == open_catalog().entries() == []


def test_a_cache_of_links_is_followed(catalog, folder, external, weights):
    """In Hugging Face's cache both files are links into blobs/; onnxruntime gets the blobs themselves."""
    write(folder / "blobs" / "aaa", external("model.onnx_data"))
    write(folder / "blobs" / "bbb", weights)
    snapshot = folder / "snapshots" / "rev"
    snapshot.mkdir(parents=True)
    (snapshot / "model.onnx").symlink_to("../../blobs/aaa")
    (snapshot / "model.onnx_data").symlink_to("../../blobs/bbb")
    catalog.add_file(snapshot / "model.onnx", "m", "", load)
    assert run(catalog.resolve("m")[1])[7] == 7


def test_links_out_of_the_folder_are_not_followed(catalog, folder, external, weights, tmp_path, accept):
    """A model of somebody else's must not make the server read any file it likes."""
    write(tmp_path / "elsewhere" / "secret", weights)
    (folder / "w.bin").symlink_to(tmp_path / "elsewhere" / "secret")
    with pytest.raises(ExternalDataMissingError, match="out of the model's folder") as caught:
        catalog.add_file(write(folder / "m.onnx", external()), "m", "", accept)
    assert caught.value.metadata == {"path": "w.bin"}


def test_missing_and_short_external_data_is_named(catalog, folder, external, weights, accept):
    """The error says which file to copy again."""
    path = write(folder / "m.onnx", external())
    with pytest.raises(ExternalDataMissingError, match=r"'w\.bin' is not beside 'm\.onnx'"):
        catalog.add_file(path, "m", "", accept)
    write(folder / "w.bin", weights[:-1])
    with pytest.raises(ExternalDataMissingError, match="4095 bytes, but the model needs 4096"):
        catalog.add_file(path, "m", "", accept)
    with pytest.raises(ModelNotFoundError, match="no model file"):
        catalog.add_file(folder / "absent.onnx", "m", "", accept)


def test_what_lies_in_place_is_not_uploaded_but_copied(open_catalog, folder, external, weights, accept, sha256):
    """An upload of the same model sends no byte and is independent of the files in place."""
    catalog = open_catalog()
    write(folder / "w.bin", weights)
    catalog.add_file(write(folder / "m.onnx", external()), "m", "", accept)
    data = external()
    with catalog.begin_upload(sha256(data), len(data), "kept") as upload:
        assert not upload.graph_needed
        for path in upload.graph_done():
            upload.file_digest(path, sha256(weights), len(weights))
        assert upload.files_wanted() == ()
        upload.commit(accept)
    shutil.rmtree(folder)
    after = open_catalog()
    assert [entry.name for entry in after.entries()] == ["kept"]
    assert run(after.resolve("kept")[1])[9] == 9


def test_files_in_place_that_changed_are_sent(catalog, folder, external, weights, accept, sha256):
    """A file whose bytes are not those of its digest any more does not count as there."""
    write(folder / "w.bin", weights)
    catalog.add_file(write(folder / "m.onnx", external()), "m", "", accept)
    write(folder / "w.bin", weights[::-1])
    data = external()
    with catalog.begin_upload(sha256(data), len(data), "n") as upload:
        upload.graph_done()
        upload.file_digest("w.bin", sha256(weights), len(weights))
        assert upload.files_wanted() == ("w.bin",)


def test_the_models_folder_is_read(catalog, folder, mlp, large, external, weights):
    """Files, folders and versions become names; a broken one is left out, logged, and told."""
    write(folder / "digits.onnx", mlp)
    write(folder / "big" / "3" / "model.onnx", large)
    write(folder / "big" / "model.onnx", mlp)
    write(folder / "big" / "probes" / "model.onnx", mlp)
    write(folder / "outside" / "model.onnx", external())
    write(folder / "outside" / "w.bin", weights)
    write(folder / "broken.onnx", b"oops")
    write(folder / "readme.txt", b"hello")
    write(folder / ".hidden.onnx", mlp)
    failures = catalog.scan_models_folder(folder, load)
    assert [(failure.path.name, "text" in failure.reason) for failure in failures] == [("broken.onnx", True)]
    listed = [(entry.name, entry.version, entry.read_only) for entry in catalog.entries()]
    assert listed == [("big", "3", True), ("big", "4", True), ("digits", "1", True), ("outside", "1", True)]
    with pytest.raises(ModelReadOnlyError):
        catalog.unload("digits")


def test_a_name_of_the_folder_shadows_nothing(open_catalog, folder, mlp, large, accept, tmp_path):
    """Where an upload has the name and version already, the folder's model is left out; it is never kept."""
    catalog = open_catalog()
    catalog.add_file(write(tmp_path / "up.onnx", large), "m", "1", accept)
    write(folder / "m" / "1" / "model.onnx", mlp)
    write(folder / "n.onnx", mlp)
    (failure,) = catalog.scan_models_folder(folder, accept)
    assert "stands for another model" in failure.reason
    assert [entry.name for entry in open_catalog().entries()] == ["m"]
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        catalog.scan_models_folder(folder / "absent", accept)


def test_many_threads_add_and_unload(catalog, folder, parsed, accept, tmp_path):
    """Sixteen threads at once leave a consistent catalog and nothing in staging."""
    text = '<ir_version: 8, opset_import: ["" : 17]> g{} (float[2] x) => (float[2] y) {{ y = Relu(x) }}'
    paths = [write(folder / f"{i}.onnx", parsed(text.format(i))) for i in range(8)]

    def work(index):
        path = paths[index % 8]
        catalog.add_file(path, f"m{index}", "", accept)
        catalog.resolve(f"m{index}")
        if index % 2:
            catalog.unload(f"m{index}")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(32)))
    assert len(catalog.entries()) == 16
    digests = {entry.digest for entry in catalog.entries()}
    assert {path.name for path in (tmp_path / "data" / "models").iterdir()} == digests
    assert list((tmp_path / "data" / "staging").iterdir()) == []


def test_a_taken_version_is_refused(catalog, folder, mlp, large, accept):
    """Adding other bytes under the same name and version changes nothing."""
    catalog.add_file(write(folder / "a.onnx", mlp), "m", "1", accept)
    with pytest.raises(ModelExistsError):
        catalog.add_file(write(folder / "b.onnx", large), "m", "1", accept)
    assert catalog.resolve("m")[1].graph_bytes == mlp
