"""Models on their way: what is sent, and what is never."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

import onnxscope
from onnxscope.upload import CHUNK_BYTES, Source, Upload, classify
from onnxscope.v1 import model_service_pb2 as pb

HOSTILE = [
    "../secret",
    "a/../../secret",
    "/etc/passwd",
    "..\\secret",
    "sub\\secret",
    "C:/secret",
    "C:secret",
    "//host/share",
    "",
    ".",
    "sub/",
    "secret\0.bin",
]


class Proto:
    """What an onnx.ModelProto looks like from here."""

    def __init__(self, data=b"", error=None):
        self._data = data
        self._error = error

    def SerializeToString(self):  # noqa: N802  # protobuf's name
        """The bytes."""
        if self._error:
            raise self._error
        return self._data


@pytest.fixture
def folder(tmp_path):
    """A model folder with weights, and a secret beside it."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "m.onnx").write_bytes(b"graph with weights.bin and sub/more.bin")
    (tmp_path / "model" / "weights.bin").write_bytes(b"weights")
    (tmp_path / "model" / "sub").mkdir()
    (tmp_path / "model" / "sub" / "more.bin").write_bytes(b"more")
    return tmp_path / "model"


def digests(*paths):
    """Returns the server's question for digests."""
    return pb.UploadModelResponse(digests_wanted=pb.DigestsWanted(paths=paths))


def files(*paths):
    """Returns the server's question for files."""
    return pb.UploadModelResponse(files_wanted=pb.FilesWanted(paths=paths))


def test_a_source_is_told_from_a_name(folder, monkeypatch):
    """A file is a path, a str that is no file is a name, bytes and protos are bytes."""
    monkeypatch.chdir(folder)
    assert classify("m.onnx") == classify(Path("m.onnx")) == Source(path=Path("m.onnx"))
    assert classify("digits") == "digits"
    assert classify("sha" * 8) == "sha" * 8
    assert classify(b"abc") == classify(bytearray(b"abc")) == classify(Proto(b"abc")) == Source(data=b"abc")


@pytest.mark.parametrize("source", ["digts.onnx", "models/digits", Path("digits")])
def test_a_path_that_is_not_there_is_a_missing_file(source):
    """A typo in a path is not looked up in the catalog."""
    with pytest.raises(onnxscope.ModelFileNotFoundError, match="does not exist") as caught:
        classify(source)
    assert isinstance(caught.value, FileNotFoundError)


def test_what_is_no_model_is_refused(folder):
    """A folder and a number say what is wanted."""
    with pytest.raises(onnxscope.ModelFileNotFoundError, match="is a folder"):
        classify(folder)
    with pytest.raises(onnxscope.ValueInvalidError, match="not int"):
        classify(3)


def test_a_proto_above_two_gib_says_to_save_it():
    """Protobuf's own error would not help."""
    with pytest.raises(onnxscope.ModelInvalidError, match="save_as_external_data"):
        classify(Proto(error=ValueError("Failed to serialize proto")))


@pytest.mark.parametrize("as_file", [True, False])
def test_start_announces_digest_and_size(folder, as_file):
    """Bytes and files are announced alike."""
    data = (folder / "m.onnx").read_bytes()
    source = Source(path=folder / "m.onnx") if as_file else Source(data=data)
    start = Upload(source, "mine", "2").start().start
    assert start.graph_digest == hashlib.sha256(data).hexdigest()
    assert (start.graph_byte_count, start.name, start.version) == (len(data), "mine", "2")


def test_the_graph_goes_in_chunks_without_gaps():
    """Chunks are of 1 MiB, in order."""
    data = os.urandom(2 * CHUNK_BYTES + 5)
    wanted = pb.UploadModelResponse(graph_wanted=pb.GraphWanted())
    chunks = [message.chunk for message in Upload(Source(data=data)).answer(wanted)]
    assert [(chunk.path, chunk.offset, len(chunk.data)) for chunk in chunks] == [
        ("", 0, CHUNK_BYTES),
        ("", CHUNK_BYTES, CHUNK_BYTES),
        ("", 2 * CHUNK_BYTES, 5),
    ]
    assert b"".join(chunk.data for chunk in chunks) == data


def test_files_of_the_folder_are_sent_as_asked(folder):
    """Digests for all that the graph names, chunks for what the server lacks."""
    upload = Upload(Source(path=folder / "m.onnx"))
    told = [message.file_digest for message in upload.answer(digests("weights.bin", "sub/more.bin"))]
    assert [(t.path, t.byte_count) for t in told] == [("weights.bin", 7), ("sub/more.bin", 4)]
    assert told[0].digest == hashlib.sha256(b"weights").hexdigest()
    (chunk,) = upload.answer(files("sub/more.bin"))
    assert (chunk.chunk.path, chunk.chunk.data) == ("sub/more.bin", b"more")


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("ask", [digests, files])
def test_a_name_that_leaves_the_folder_is_never_read(folder, name, ask):
    """Not even a digest of such a file is told, whichever question names it."""
    (folder / "m.onnx").write_bytes(b"graph " + name.encode())
    with pytest.raises(onnxscope.ExternalDataMissingError) as caught:
        Upload(Source(path=folder / "m.onnx")).answer(ask(name))
    assert caught.value.metadata == {"path": name}


def test_links_out_of_the_folder_are_never_followed(folder):
    """Neither a linked file nor a file in a linked folder is sent."""
    (folder / "m.onnx").write_bytes(b"graph link.bin out/secret")
    (folder / "link.bin").symlink_to(folder.parent / "secret")
    (folder / "out").symlink_to(folder.parent)
    for name in ("link.bin", "out/secret"):
        with pytest.raises(onnxscope.ExternalDataMissingError, match="leads out"):
            Upload(Source(path=folder / "m.onnx")).answer(digests(name))


def test_a_link_within_the_folder_is_fine(folder):
    """What counts is where it leads."""
    (folder / "m.onnx").write_bytes(b"graph link.bin")
    (folder / "link.bin").symlink_to(folder / "weights.bin")
    (told,) = Upload(Source(path=folder / "m.onnx")).answer(digests("link.bin"))
    assert told.file_digest.byte_count == 7


def test_a_cache_of_links_is_fine(tmp_path):
    """Hugging Face keeps model and weights as links to one folder of blobs."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for name, blob, data in (("m.onnx", "1a", b"graph m.onnx_data"), ("m.onnx_data", "2b", b"weights")):
        (tmp_path / "blobs" / blob).write_bytes(data)
        (tmp_path / "snapshot" / name).symlink_to(Path("..") / "blobs" / blob)
    upload = Upload(Source(path=tmp_path / "snapshot" / "m.onnx"))
    (told,) = upload.answer(digests("m.onnx_data"))
    assert told.file_digest.byte_count == 7
    (tmp_path / "snapshot" / "m.onnx_data").unlink()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "snapshot" / "m.onnx_data").symlink_to(tmp_path / "secret")
    with pytest.raises(onnxscope.ExternalDataMissingError, match="leads out"):
        Upload(Source(path=tmp_path / "snapshot" / "m.onnx")).answer(digests("m.onnx_data"))


def test_what_is_no_regular_file_is_not_sent(folder):
    """A folder or a pipe is not read; a file that is missing says where it should be."""
    (folder / "m.onnx").write_bytes(b"graph sub pipe gone.bin")
    os.mkfifo(folder / "pipe")
    for name, text in (("sub", "no regular file"), ("pipe", "no regular file"), ("gone.bin", "copy it there")):
        with pytest.raises(onnxscope.ExternalDataMissingError, match=text):
            Upload(Source(path=folder / "m.onnx")).answer(digests(name))


def test_a_server_cannot_ask_for_what_the_model_does_not_name(folder):
    """A hostile server gets no other file of the folder."""
    (folder / "diary.txt").write_bytes(b"dear diary")
    with pytest.raises(onnxscope.InternalError, match="does not name"):
        Upload(Source(path=folder / "m.onnx")).answer(files("diary.txt"))


def test_bytes_with_external_data_say_to_give_the_path():
    """There is no folder to find the files in."""
    with pytest.raises(onnxscope.ExternalDataMissingError, match="path of the model file"):
        Upload(Source(data=b"graph weights.bin")).answer(digests("weights.bin"))


def test_an_upload_ends_with_its_model():
    """Without `completed` it was cut."""
    upload = Upload(Source(data=b"graph"))
    with pytest.raises(onnxscope.StreamCutError):
        upload.finish()
    done = pb.UploadModelResponse(completed=pb.UploadCompleted(model=pb.Model(name="mine")))
    assert list(upload.answer(done)) == []
    assert upload.finish().name == "mine"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("models/digits.onnx", "digits"),
        ("models/digits/model.onnx", "digits"),
        ("v1.2.onnx", "v1.2"),
        (f"{'a' * 64}.onnx", ""),
        (f"{'x' * 201}.onnx", ""),
        (" .onnx", ""),
    ],
)
def test_a_files_name_is_the_models_name(path, name):
    """As in a server's models folder; what a catalog refuses as a name is left to the server."""
    assert Source(path=Path(path)).default_name == name
    assert Source(data=b"").default_name == ""
