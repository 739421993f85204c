"""The trial load: a model enters the catalog only where onnxruntime can load it."""

from __future__ import annotations

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.run.session import Opening

_DEFAULT = Opening()
_QUICK = {"session.disable_prepacking": "1"}


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
