"""Uploads: content-addressed, checked on every step, and nothing visible before the end."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from onnxscope_server.errors import (
    ExternalDataMissingError,
    LimitExceededError,
    ModelExistsError,
    ModelInvalidError,
    ModelNotFoundError,
    UploadInvalidError,
)

PIECE = 100_000


@pytest.fixture
def send(sha256):
    """Sends a model as a client would; returns the entry, the model and the number of bytes sent."""

    def send_(catalog, data, files=None, *, name="m", version="", check=lambda _: None):
        with catalog.begin_upload(sha256(data), len(data), name, version) as upload:
            if upload.graph_needed:
                pieces(upload, "", data)
            for path in upload.graph_done():
                upload.file_digest(path, sha256(files[path]), len(files[path]))
            for path in upload.files_wanted():
                pieces(upload, path, files[path])
            entry, model = upload.commit(check)
            return entry, model, upload.received_byte_count

    return send_


def pieces(upload, path, data):
    """Sends a file in pieces."""
    for offset in range(0, len(data), PIECE):
        upload.write(path, offset, data[offset : offset + PIECE])


def run(model, **inputs):
    """Runs a model with onnxruntime."""
    options = onnxruntime.SessionOptions()
    if model.data_folder:
        key = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(key, str(model.data_folder))
    session = onnxruntime.InferenceSession(model.graph_bytes, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def staged(tmp_path):
    """What lies in the staging folder."""
    return list((tmp_path / "data" / "staging").iterdir())


def test_a_model_is_there_after_the_commit(catalog, send, mlp, sha256, tmp_path):
    """Bytes arrive, the digest is the file's, and staging is empty again."""
    entry, model, sent = send(catalog, mlp)
    assert (entry.name, entry.version, entry.digest) == ("m", "1", sha256(mlp))
    assert catalog.resolve("m")[1] is model
    assert (model.graph_bytes, model.byte_count, model.data_folder) == (mlp, len(mlp), None)
    assert sent == len(mlp)
    assert staged(tmp_path) == []


def test_a_model_that_is_there_is_not_sent_again(catalog, send, mlp, large):
    """Under another name no byte is sent, whether its weights were moved out or not."""
    for data in (mlp, large):
        send(catalog, data)
        entry, model, sent = send(catalog, data, name="again")
        assert (entry.name, sent) == ("again", 0)
        assert model.byte_count == len(data)


def test_chunks_of_a_model_that_is_there_are_ignored(catalog, send, mlp, sha256):
    """A client that reads no answers sends everything in one go."""
    send(catalog, mlp)
    with catalog.begin_upload(sha256(mlp), len(mlp), "m") as upload:
        pieces(upload, "", mlp)
        assert upload.graph_done() == ()
        upload.commit(lambda _: None)
        assert upload.received_byte_count == 0


def test_external_data_is_asked_for_by_digest(catalog, send, external, weights, sha256):
    """Files come after their digests, the digest covers both, and the model computes with them."""
    data = external("sub/w.bin")
    entry, model, _ = send(catalog, data, {"sub/w.bin": weights})
    lines = f"graph {sha256(data)}\n{sha256(weights)} sub/w.bin\n"
    assert entry.digest == sha256(lines.encode())
    assert model.byte_count == len(data) + len(weights)
    np.testing.assert_array_equal(run(model, x=np.zeros(1024, np.float32)), np.frombuffer(weights, np.float32))


def test_the_same_graph_with_other_data_is_another_model(catalog, send, external, weights):
    """Only the data that differs is sent, and both models compute with their own."""
    other = weights[::-1]
    first, one, _ = send(catalog, external(), {"w.bin": weights})
    second, two, sent = send(catalog, external(), {"w.bin": other})
    assert first.digest != second.digest
    assert (second.version, sent) == ("2", len(other))
    x = np.zeros(1024, np.float32)
    assert not np.array_equal(run(one, x=x), run(two, x=x))


def test_files_that_the_server_has_are_not_sent(catalog, send, external, weights, tmp_path):
    """Another graph over the same data needs only the graph; unloading the first leaves the second whole."""
    send(catalog, external(), {"w.bin": weights}, name="a")
    _, model, sent = send(catalog, external("other.bin"), {"other.bin": weights}, name="b")
    assert sent == len(external("other.bin"))
    catalog.unload("a")
    assert run(model, x=np.zeros(1024, np.float32))[3] == 3
    assert len(list((tmp_path / "data" / "models").iterdir())) == 1


def test_what_breaks_off_leaves_nothing(catalog, mlp, sha256, tmp_path):
    """Neither a model nor a file remains of an upload that was not committed."""
    with catalog.begin_upload(sha256(mlp), len(mlp), "m") as upload:
        upload.write("", 0, mlp[:100])
    upload.abort()
    assert staged(tmp_path) == []
    with pytest.raises(ModelNotFoundError):
        catalog.resolve("m")


def test_a_model_that_does_not_load_leaves_nothing(catalog, send, mlp, tmp_path):
    """When the trial load refuses it, the catalog is as before."""

    def refuse(_):
        raise ModelInvalidError("no kernel", detail="no kernel")

    with pytest.raises(ModelInvalidError, match="no kernel"):
        send(catalog, mlp, check=refuse)
    assert catalog.entries() == []
    assert staged(tmp_path) == []
    assert list((tmp_path / "data" / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lambda up, _: up.write("", 5, b"x"), "starts at byte 5, not at 0"),
        (lambda up, data: up.write("", 0, data + b"x"), "more than that arrived"),
        (lambda up, _: up.write("w.bin", 0, b"x"), "was not announced"),
        (lambda up, _: up.graph_done(), "incomplete: 0 of"),
        (lambda up, _: up.commit(lambda _: None), "must be complete"),
        (lambda up, _: up.file_digest("w.bin", "0" * 64, 1), "must be complete"),
        (lambda up, data: (up.write("", 0, b"x" * len(data)), up.graph_done()), "another digest"),
    ],
)
def test_a_broken_conversation_is_refused(catalog, mlp, sha256, do, words):
    """Gaps, overruns, unannounced paths, missing and damaged bytes each have their words."""
    with catalog.begin_upload(sha256(mlp), len(mlp), "m") as upload, pytest.raises(UploadInvalidError, match=words):
        do(upload, mlp)


def test_external_data_is_held_to_what_was_announced(catalog, external, weights, sha256, mlp):
    """Paths that the graph does not name, digests told twice or not at all, short and damaged files."""
    data = external()
    with catalog.begin_upload(sha256(data), len(data), "m") as upload:
        upload.write("", 0, data)
        assert upload.graph_done() == ("w.bin",)
        with pytest.raises(UploadInvalidError, match="was not announced"):
            upload.files_wanted()
        with pytest.raises(UploadInvalidError, match="names no external data"):
            upload.file_digest("x.bin", sha256(weights), 4096)
        with pytest.raises(ExternalDataMissingError, match="has 4095 bytes, but the model needs 4096"):
            upload.file_digest("w.bin", sha256(weights), 4095)
        with pytest.raises(UploadInvalidError, match="64 lower-case hex"):
            upload.file_digest("w.bin", "nonsense", 4096)
        upload.file_digest("w.bin", sha256(weights), 4096)
        with pytest.raises(UploadInvalidError, match="twice"):
            upload.file_digest("w.bin", sha256(weights), 4096)
        assert upload.files_wanted() == ("w.bin",)
        with pytest.raises(UploadInvalidError, match="0 of the announced 4096"):
            upload.commit(lambda _: None)
        upload.write("w.bin", 0, bytes(4096))
        with pytest.raises(UploadInvalidError, match="another digest"):
            upload.commit(lambda _: None)


def test_the_limit_holds_before_a_byte_is_sent(open_catalog, external, weights, sha256):
    """The graph's size and the files' are counted as soon as they are announced."""
    data = external()
    catalog = open_catalog(max_model_bytes=len(data) + 4000)
    with pytest.raises(LimitExceededError) as caught:
        catalog.begin_upload("0" * 64, 1 << 40)
    assert caught.value.metadata["setting"] == "max_model_bytes"
    with catalog.begin_upload(sha256(data), len(data)) as upload:
        upload.write("", 0, data)
        upload.graph_done()
        with pytest.raises(LimitExceededError):
            upload.file_digest("w.bin", sha256(weights), 4096)


def test_a_taken_version_is_refused_before_the_files(catalog, send, mlp, external, weights, sha256):
    """The name and version of other bytes stop the upload as soon as the digest is known."""
    send(catalog, mlp, version="1")
    data = external()
    with catalog.begin_upload(sha256(data), len(data), "m", "1") as upload:
        upload.write("", 0, data)
        upload.graph_done()
        upload.file_digest("w.bin", sha256(weights), 4096)
        with pytest.raises(ModelExistsError):
            upload.files_wanted()


def test_a_digest_that_is_none_is_refused(catalog):
    """The announcement itself is checked."""
    with pytest.raises(UploadInvalidError, match="64 lower-case hex"):
        catalog.begin_upload("abc", 3)


def test_a_model_unloaded_meanwhile_still_arrives(catalog, send, mlp, large, sha256):
    """The bytes that an upload counts on stay, though every name of them goes."""
    for data in (mlp, large):
        send(catalog, data)
        with catalog.begin_upload(sha256(data), len(data), "later") as upload:
            assert not upload.graph_needed
            catalog.unload("m")
            upload.graph_done()
            entry, model = upload.commit(lambda _: None)
        assert entry.name == "later"
        assert model.hook_points
        catalog.unload("later")
