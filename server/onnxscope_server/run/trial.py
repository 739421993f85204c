"""What can be told without a run: whether onnxruntime takes a model at all, and what it knows of operators."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import ValueType
from onnxscope_server.errors import ModelInvalidError
from onnxscope_server.run.environment import native
from onnxscope_server.run.node_types import declared_type
from onnxscope_server.run.opening import Opening

_DEFAULT = Opening()
_QUICK = {"session.disable_prepacking": "1"}
# y = Neg(x) for float [1]: serialised by onnx, which this package doesn't import
_SMALLEST = (
    b'\x08\x07:4\n\r\n\x01x\x12\x01y"\x03Neg:\x00\x12\x01tZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


def check(model: CatalogModel, opening: Opening = _DEFAULT) -> None:
    """Checks that onnxruntime loads a model, without optimising it; where that fails, as it will be run.

    The optimiser may fold or fuse away a node that onnxruntime has no kernel for.

    This does not guard against models made to hurt: nested functions of 1.9 KB that unfold without end make the load
    hang, and a Loop of 2^62 trips loads well and only ends when its run is cancelled. A load cannot be
    cancelled; a server that takes models from strangers belongs in a process that can be killed.

    Args:
        model: the model.
        opening: how the server opens sessions.

    Raises:
        ModelInvalidError: onnxruntime refuses it.
        OutOfMemoryError: there is not enough memory for its weights.
    """
    model.check()
    _open(model.graph_bytes, model.data_folder, opening)


class Knowledge:
    """What onnxruntime knows of operators.

    Args:
        opening: how the server opens sessions.
    """

    def __init__(self, opening: Opening = _DEFAULT) -> None:
        self._opening = opening

    def output_types(self, graph: bytes, data_folder: Path | None) -> dict[str, ValueType | None]:
        """Tells the types of a graph's outputs as onnxruntime infers them; it knows more operators than onnx does.

        Args:
            graph: serialised ModelProto; its outputs may lack types.
            data_folder: where its external data lies.

        Returns:
            Types by output name, as far as they are known.

        Raises:
            ModelInvalidError: onnxruntime refuses it.
            OutOfMemoryError: there is not enough memory for its weights.
        """
        session = _open(graph, data_folder, self._opening)
        return {item.name: declared_type(item.type, item.shape) for item in session.get_outputs()}

    def has_operator(self, domain: str, op_type: str, version: int) -> bool:
        """Tells whether onnxruntime has an operator of its own; it then never looks for a local function.

        Args:
            domain: of the operator; empty for ONNX's own.
            op_type: its name.
            version: of the domain, as the model imports it.
        """
        return any(since <= version for since in _since_versions().get((domain, op_type), ()))


def providers_in_use(opening: Opening) -> tuple[str, ...]:
    """Returns the execution providers that a session really gets, first choice first.

    onnxruntime leaves out a provider whose libraries fail to load, and puts the CPU behind those that were asked for.
    """
    return tuple(opening.open(_SMALLEST, None, exact=True).get_providers())


@functools.cache
def _since_versions() -> Mapping[tuple[str, str], Sequence[int]]:
    """Versions of the domains that brought an operator or changed it, by domain and operator."""
    versions: dict[tuple[str, str], list[int]] = {}
    for schema in native.get_all_operator_schema():
        versions.setdefault((schema.domain, schema.name), []).append(schema.since_version)
    return versions


def _open(graph: bytes, data_folder: Path | None, opening: Opening) -> Any:
    try:
        return opening.open(graph, data_folder, exact=True, entries=_QUICK)
    except ModelInvalidError:
        return opening.open(graph, data_folder, exact=False, entries=_QUICK)
