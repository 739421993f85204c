"""Models on their way to a server: what a source is, and the client's side of the upload's conversation.

No transport: `Upload` answers messages with messages. Nothing is sent that the model's folder does not hold and the
model file does not name, whatever model or server ask for.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from onnxscope.errors import (
    ExternalDataMissingError,
    InternalError,
    ModelFileNotFoundError,
    ModelInvalidError,
    StreamCutError,
    ValueInvalidError,
)
from onnxscope.v1 import model_service_pb2 as pb

CHUNK_BYTES = 1 << 20
_PROTO_LIMIT_BYTES = 2 << 30
_NAME_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Source:
    """A model outside of the catalog: either a file or bytes.

    Attributes:
        path: the model file as the caller gave it; None for bytes.
        data: the model file's bytes; None for a file.
    """

    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)

    @property
    def default_name(self) -> str:
        """Name where the caller gives none: as in a server's models folder, NAME.onnx or NAME/model.onnx.

        Empty, so that the server chooses, for bytes and for what a catalog would refuse as a name.
        """
        if self.path is None:
            return ""
        path = self.path.absolute()
        name = path.parent.name if path.name == "model.onnx" else path.stem
        fits = name == name.strip() and name.isprintable() and len(name) <= _NAME_LENGTH
        return name if fits and not re.fullmatch("[0-9a-f]{64}", name) else ""

    def open(self) -> io.BufferedReader | io.BytesIO:
        """Opens the model file for reading."""
        return self.path.open("rb") if self.path is not None else io.BytesIO(self.data or b"")

    def names(self, text: str) -> bool:
        """Says whether the model file holds a text, for example the name of a file of external data."""
        needle = text.encode()
        if self.path is None:
            return needle in (self.data or b"")
        if not self.path.stat().st_size:
            return False
        with (
            self.path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
        ):
            return view.find(needle) >= 0

    def data_file(self, name: str) -> Path:
        """Finds a file of external data, and makes sure that it may be sent.

        Args:
            name: path relative to the model's folder, with forward slashes.

        Returns:
            The regular file, resolved: inside the model's own folder, or, where the model file is itself a symbolic
            link (as in a Hugging Face cache), beside the file that it leads to.

        Raises:
            ExternalDataMissingError: there is no such file, or it is not to be sent.
        """
        if self.path is None:
            raise ExternalDataMissingError(
                f"the model keeps weights in the file {name!r}, and bytes have no folder to find it in: "
                "give load() the path of the model file",
                {"path": name},
            )
        if not _is_inside(name):
            raise ExternalDataMissingError(
                f"the model asks for the file {name!r}, which is outside of its own folder: it is not sent. Put the "
                "file beside the model and save the model with that location",
                {"path": name},
            )
        folder = self.path.parent
        try:
            found = (folder / name).resolve(strict=True)
        except OSError as error:
            raise ExternalDataMissingError(
                f"the model keeps weights in {name!r}, which is not in {str(folder)!r}: copy it there",
                {"path": name},
            ) from error
        linked_folder = self.path.resolve().parent if self.path.is_symlink() else None
        if not found.is_relative_to(folder.resolve()) and found.parent != linked_folder:
            raise ExternalDataMissingError(
                f"{name!r} is a link that leads out of the model's folder, to {str(found)!r}: it is not sent. Copy "
                "the file beside the model",
                {"path": name},
            )
        if not found.is_file():
            raise ExternalDataMissingError(f"{name!r} in {str(folder)!r} is no regular file", {"path": name})
        return found


def classify(source: Any) -> Source | str:
    """Tells what `load()` was given.

    Args:
        source: a path, bytes, an `onnx.ModelProto` (anything with `SerializeToString`), or a name in the catalog.

    Returns:
        The model to bring, or the name or digest of one that the catalog should have.

    Raises:
        ModelFileNotFoundError: it looks like a path, and no file is there.
        ModelInvalidError: it is a ModelProto that is too large to be serialised.
        ValueInvalidError: it is none of these.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return Source(data=bytes(source))
    if isinstance(source, str | os.PathLike):
        return _path_or_name(source)
    if hasattr(source, "SerializeToString"):
        return Source(data=_serialised(source))
    raise ValueInvalidError(
        f"a model is a path, bytes, an onnx.ModelProto or a name in the catalog, not {type(source).__name__}"
    )


def _path_or_name(source: str | os.PathLike[str]) -> Source | str:
    text = os.fspath(source)
    path = Path(text)
    if path.is_file():
        return Source(path=path)
    looks_like_path = not isinstance(source, str) or path.suffix == ".onnx" or "/" in text or os.sep in text
    if looks_like_path:
        what = "is a folder: give the .onnx file in it" if path.is_dir() else "does not exist"
        raise ModelFileNotFoundError(f"{text!r} {what} (looked in {str(Path.cwd())!r})", {"model": text})
    return text


def _serialised(proto: Any) -> bytes:
    too_large = ModelInvalidError(
        "this ModelProto is above protobuf's limit of 2 GiB: save it with onnx.save(model, path, "
        "save_as_external_data=True) and give load() the path"
    )
    try:
        data: bytes = proto.SerializeToString()
    except Exception as error:
        if "serialize" in str(error).lower() or "exceeds" in str(error).lower():
            raise too_large from error
        raise
    if len(data) >= _PROTO_LIMIT_BYTES:
        raise too_large
    return data


def _is_inside(name: str) -> bool:
    """Says whether a relative name stays inside the folder that it starts from, on any system."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return (
        bool(posix.parts)
        and not posix.is_absolute()
        and ".." not in posix.parts
        and "\\" not in name
        and "\0" not in name
        and not windows.drive
        and not windows.root
        and not name.endswith("/")
    )


class Upload:
    """The client's side of UploadModel.

    Args:
        source: the model to bring.
        name: to keep it under; empty lets the server choose.
        version: of the name; empty lets the server choose.
    """

    def __init__(self, source: Source, name: str = "", version: str = "") -> None:
        self._source = source
        self._name = name
        self._version = version
        self._files: dict[str, Path] = {}
        self._model: pb.Model | None = None

    def start(self) -> pb.UploadModelRequest:
        """Reads the model file once, for its digest, and returns the first message."""
        try:
            with self._source.open() as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.seek(0, io.SEEK_END)
        except OSError as error:
            raise ModelInvalidError(f"the model file cannot be read: {error}") from error
        announced = pb.UploadStart(graph_digest=digest, graph_byte_count=size, name=self._name, version=self._version)
        return pb.UploadModelRequest(start=announced)

    def answer(self, response: pb.UploadModelResponse) -> Iterator[pb.UploadModelRequest]:
        """Returns the messages that a response asks for.

        Every check is made before this returns; files are read as the messages are taken.

        Raises:
            ExternalDataMissingError: a file is missing or is not to be sent; nothing of it is.
        """
        match response.WhichOneof("message"):
            case "graph_wanted":
                return _chunks(self._source.open(), "")
            case "digests_wanted":
                self._find(response.digests_wanted.paths)
                return (_digest(self._files[path], path) for path in response.digests_wanted.paths)
            case "files_wanted":
                self._find(path for path in response.files_wanted.paths if path not in self._files)
                wanted = response.files_wanted.paths
                return (chunk for path in wanted for chunk in _chunks(self._files[path].open("rb"), path))
            case "completed":
                self._model = response.completed.model
        return iter(())

    def finish(self) -> pb.Model:
        """Returns the model as it stands in the catalog now.

        Raises:
            StreamCutError: the server closed its side before `completed`.
        """
        if self._model is None:
            raise StreamCutError("the server's answer to an upload ended before it was complete; load again")
        return self._model

    def _find(self, names: Iterable[str]) -> None:
        found = {}
        for name in names:
            path = self._source.data_file(name)
            if not self._source.names(PurePosixPath(name).name):
                raise InternalError(f"the server asks for the file {name!r}, which the model does not name")
            found[name] = path
        self._files.update(found)


def _digest(file: Path, path: str) -> pb.UploadModelRequest:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        size = opened.seek(0, io.SEEK_END)
    return pb.UploadModelRequest(file_digest=pb.FileDigest(path=path, digest=digest, byte_count=size))


def _chunks(file: IO[bytes], path: str) -> Iterator[pb.UploadModelRequest]:
    with file:
        offset = 0
        while data := file.read(CHUNK_BYTES):
            yield pb.UploadModelRequest(chunk=pb.UploadChunk(path=path, offset=offset, data=data))
            offset += len(data)
