"""The trial load: a model enters the catalog only where onnxruntime can load it."""

from __future__ import annotations

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.run.session import Opening

_DEFAULT = Opening()
_QUICK = {"session.disable_prepacking": "1"}
# y = Neg(x) for float [1]: serialised by onnx, which this package doesn't import
_SMALLEST = (
    b'\x08\x07:4\n\r\n\x01x\x12\x01y"\x03Neg:\x00\x12\x01tZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


def check(model: CatalogModel, opening: Opening = _DEFAULT) -> None:
    """Checks that onnxruntime loads a model, without optimising it.

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
    opening.open(model.graph_bytes, model.data_folder, exact=True, entries=_QUICK)


def providers_in_use(opening: Opening) -> tuple[str, ...]:
    """Returns the execution providers that a session really gets, first choice first.

    onnxruntime leaves out a provider whose libraries fail to load, and puts the CPU behind those that were asked for.
    """
    return tuple(opening.open(_SMALLEST, None, exact=True).get_providers())
