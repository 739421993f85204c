"""The weights of a model as all its sessions map them: each once, in files, with packed forms beside them.

onnxruntime maps external data instead of copying it, also what its kernels make of a weight before they compute with it
(its packed form), where the graph says that this lies in the same file:

    initializer w       location "weights", offset 0, length 4096, prepacked_0 "MatMul+1303|4096;4096;0"

It takes such an entry only where its own kernel has just made the same bytes: no wrong entry changes a result.

Graphs come optimised: their weights are either the model's own, as references to its files, or what the optimiser made
of these. The latter are kept by content, so that each lies here once, however many graphs have it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import onnx

from onnxscope_server.catalog import graph
from onnxscope_server.catalog.walk import graphs, nodes

# smaller weights stay in the graphs: a mapping of its own costs as much
LEAST_BYTES = 64 << 10
PACKED_GRAPH = "packed.onnx"
PACKED_WEIGHTS = "packed"
_MADE_WEIGHTS = "made"
_MADE = "onnxscope-made-"
_ENTRY = "prepacked_"
_PAGE = 4096
_NODE_BYTES = 8 << 10
# before it, weights that are inputs can't be given
_OVERRIDABLE_IR_VERSION = 4

# location, offset and length, as an optimised graph says them
_Key: TypeAlias = tuple[str, int, int]
Write: TypeAlias = Callable[[bytes, Path, Path], None]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Where a weight lies.

    Attributes:
        file: its name; in the folder.
        offset: in the file.
        length: of the weight.
        packed: of each packed form a hash, as onnxruntime says it, and where its parts lie.
    """

    file: str
    offset: int
    length: int
    packed: tuple[tuple[str, str], ...] = ()

    @property
    def mapped_bytes(self) -> int:
        """Bytes of memory, however many sessions map it: a packed weight is read no more once that is there."""
        parts = [part for _, parts in self.packed for part in parts.split("|")]
        return sum(int(part.split(";")[1]) for part in parts) or self.length


@dataclass(frozen=True, slots=True)
class Placed:
    """An optimised graph whose weights lie where all sessions of its model map them.

    Attributes:
        optimised: the graph as it was optimised; equal weights have equal references, whatever they lie in.
        graph: the graph to open, without further optimisation.
        folder: of the files that it refers to.
        shared: bytes of memory of each weight that it maps.
        own_bytes: estimate of what a session of it takes besides.
    """

    optimised: bytes
    graph: bytes
    folder: Path
    shared: Mapping[_Key, int]
    own_bytes: int


class SharedWeights:
    """The weights of one model. Safe to use from many threads.

    Args:
        folder: for the files; made, and the caller's to remove.
        data_folder: where the model's own external data lies.

    Raises:
        ValueError: the folders have no folder in common.
    """

    def __init__(self, folder: Path, data_folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder.resolve()
        self._data_folder = data_folder.resolve()
        # onnxruntime opens only what lies in the folder that it is given
        self._base = Path(os.path.commonpath([self._folder, self._data_folder]))
        self._location = cache(lambda file: (self._folder / file).resolve().relative_to(self._base).as_posix())
        self._pieces: dict[_Key, _Piece] = {}
        # locations of what was made, by size, beginning and end: comparing bytes is faster than digesting them
        self._alike: dict[tuple[int, bytes, bytes], tuple[str, ...]] = {}
        self._lock = threading.Lock()

    @property
    def byte_count(self) -> int:
        """Bytes of the files."""
        return sum(file.stat().st_size for file in self._folder.iterdir())

    def remove(self) -> None:
        """Deletes the files; sessions that have them mapped keep them."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def keep(self, content: memoryview) -> str:
        """Keeps a weight that the optimiser made.

        Args:
            content: its bytes.

        Returns:
            The location under which optimised graphs refer to it, at offset 0.
        """
        seen = (content.nbytes, bytes(content[:_PAGE]), bytes(content[-_PAGE:]))
        for location in self._alike.get(seen, ()):
            if self._holds(self._piece((location, 0, content.nbytes)), content):
                return location
        location = _MADE + hashlib.sha256(content).hexdigest()
        key = (location, 0, content.nbytes)
        with self._lock:
            if key not in self._pieces:
                with (self._folder / _MADE_WEIGHTS).open("ab") as file:
                    offset = -(-file.tell() // _PAGE) * _PAGE
                    file.truncate(offset)
                    file.seek(offset)
                    file.write(content)
                self._pieces[key] = _Piece(_MADE_WEIGHTS, offset, content.nbytes)
                self._alike[seen] = (*self._alike.get(seen, ()), location)
        return location

    def pack(self, optimised: bytes, write: Write) -> None:
        """Brings in the packed forms of a graph's weights; best before anything else is placed.

        Args:
            optimised: the graph.
            write: opens a graph, whose external data lies in the first folder, and lets onnxruntime write
                `PACKED_GRAPH` and `PACKED_WEIGHTS` into the second.
        """
        proto = graph.parse(optimised)
        keys = {name: _key(tensor) for name, tensor in _named(proto).items()}
        for tensor in _external(proto):
            self._refer(tensor, self._piece(_key(tensor)))
        write(proto.SerializeToString(), self._base, self._folder)
        packed_graph = self._folder / PACKED_GRAPH
        written = _named(graph.parse(packed_graph.read_bytes()))
        packed_graph.unlink()
        found = {}
        for name in keys.keys() & written.keys():
            packed = _Piece(*_key(written[name]), _packed_forms(written[name]))
            with self._mapped(packed) as content:
                if self._holds(self._piece(keys[name]), content):
                    found[keys[name]] = packed
        with self._lock:
            self._pieces |= found
            if all(piece.file != _MADE_WEIGHTS for piece in self._pieces.values()):
                (self._folder / _MADE_WEIGHTS).unlink(missing_ok=True)

    def unpack(self) -> None:
        """Forgets the packed forms."""
        with self._lock:
            self._pieces = {key: replace(piece, packed=()) for key, piece in self._pieces.items()}

    def placed(self, optimised: bytes) -> Placed:
        """Makes a graph map its weights here.

        Args:
            optimised: the graph.

        Returns:
            The graph to open.
        """
        proto = graph.parse(optimised)
        listed = list(nodes(proto))
        readers: dict[str, set[str]] = {}
        for node in listed:
            for name in node.input:
                readers.setdefault(name, set()).add(node.op_type)
        shared: dict[_Key, int] = {}
        with ExitStack() as files:
            opened = cache(lambda file: files.enter_context((self._folder / file).open("rb")))
            for tensor in _external(proto):
                key = _key(tensor)
                piece = self._piece(key)
                if piece.length < LEAST_BYTES:
                    _take_in(tensor, piece, opened(piece.file))
                    continue
                self._refer(tensor, piece, readers.get(tensor.name, ()))
                shared[key] = piece.mapped_bytes
        made = proto.SerializeToString()
        own_bytes = len(made) + _NODE_BYTES * len(listed)
        return Placed(optimised, made, self._base, shared, own_bytes)

    def _piece(self, key: _Key) -> _Piece:
        """Returns where a weight lies: in the model's own files, where it was neither packed nor made."""
        with self._lock:
            return self._pieces.get(key) or _Piece(os.path.relpath(self._data_folder / key[0], self._folder), *key[1:])

    def _refer(self, tensor: onnx.TensorProto, piece: _Piece, op_types: Collection[str] = ()) -> None:
        del tensor.external_data[:]
        location = self._location(piece.file)
        entries = {"location": location, "offset": str(piece.offset), "length": str(piece.length)}
        # kernels of several operators pack alike, and onnxruntime looks for a packed form by operator
        forms = [f"{op_type}+{form}|{parts}" for op_type in sorted(op_types) for form, parts in piece.packed]
        entries |= {f"{_ENTRY}{index}": form for index, form in enumerate(forms)}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)

    def _holds(self, piece: _Piece, content: memoryview) -> bool:
        """Tells whether these are the bytes of a piece."""
        if piece.length != content.nbytes:
            return False
        words = piece.length // 8 * 8
        with self._mapped(piece) as own:
            return _are_equal(own[:words], content[:words]) and own[words:] == content[words:]

    @contextmanager
    def _mapped(self, piece: _Piece) -> Iterator[memoryview]:
        """Gives the bytes of a piece, read only."""
        before = piece.offset % mmap.ALLOCATIONGRANULARITY
        length, offset = before + piece.length, piece.offset - before
        with (
            (self._folder / piece.file).open("rb") as file,
            mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=offset) as mapped,
            memoryview(mapped) as whole,
            whole[before:] as content,
        ):
            yield content


def _are_equal(one: memoryview, other: memoryview) -> bool:
    """Compares whole words, without the interpreter's lock."""
    return bool(np.array_equal(np.frombuffer(one, np.uint64), np.frombuffer(other, np.uint64)))


def with_inputs_of(optimised: bytes, original: bytes) -> bytes:
    """Takes inputs off an optimised graph that its original does not have.

    Older versions of the format list every weight as an input too, and the optimiser leaves it there, also where it
    has folded the weight into another one.
    """
    before = graph.parse(original)
    if before.ir_version >= _OVERRIDABLE_IR_VERSION:
        return optimised
    weights = {tensor.name for tensor in before.graph.initializer}
    proto = graph.parse(optimised)
    kept = [item for item in proto.graph.input if item.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    return graph.serialised(proto)


def weight_bytes(serialised: bytes) -> int:
    """Returns the bytes of the external weights that a graph refers to."""
    return sum({_key(tensor): _key(tensor)[2] for tensor in _external(graph.parse(serialised))}.values())


def _take_in(tensor: onnx.TensorProto, piece: _Piece, file: BinaryIO) -> None:
    file.seek(piece.offset)
    tensor.raw_data = file.read(piece.length)
    tensor.ClearField("data_location")
    del tensor.external_data[:]


def _named(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Returns the external weights by name, without those whose name stands for several: bodies have names too."""
    counts = Counter(tensor.name for body in graphs(proto) for tensor in body.initializer)
    return {tensor.name: tensor for tensor in _external(proto) if counts[tensor.name] == 1}


def _external(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for body in graphs(proto):
        for tensor in body.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                yield tensor


def _key(tensor: onnx.TensorProto) -> _Key:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return entries["location"], int(entries.get("offset", 0)), int(entries.get("length", 0))


def _packed_forms(tensor: onnx.TensorProto) -> tuple[tuple[str, str], ...]:
    forms = {}
    for entry in tensor.external_data:
        if entry.key.startswith(_ENTRY):
            name, _, parts = entry.value.partition("|")
            # onnxruntime writes empty parts and can't read them again
            if all(int(part.split(";")[1]) for part in parts.split("|")):
                forms[name.rpartition("+")[2]] = parts
    return tuple(forms.items())
