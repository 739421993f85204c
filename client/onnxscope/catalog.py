"""What a scope asks of the catalog: requests and answers, the same for `client` and `aio`."""

from __future__ import annotations

from typing import Any

from onnxscope import selectors
from onnxscope.decode import hook_point
from onnxscope.errors import ModelNotFoundError, ValueInvalidError
from onnxscope.results import HookPoint
from onnxscope.upload import Source, classify
from onnxscope.v1 import model_service_pb2 as pb


def load_request(source: Any, name: str | None, version: str | None) -> Source | pb.GetModelRequest:
    """Returns what `load()` has to do: bring a model, or ask for one that the catalog should have.

    Raises:
        OnnxscopeError: as `upload.classify`.
        ValueInvalidError: a model of the catalog is to be called something else.
    """
    found = classify(source)
    if isinstance(found, Source):
        return found
    if name is not None and name != found:
        raise ValueInvalidError(
            f"{found!r} is no file, so it is a name in the catalog, and name= is for models that are "
            "brought there: leave it out, or give the path of a model file"
        )
    return pb.GetModelRequest(model=found, version=version or "")


def not_found(error: ModelNotFoundError, request: pb.GetModelRequest) -> ModelNotFoundError:
    """Returns the error of a name that is neither in the catalog nor a file."""
    text = f"{error.message.removesuffix('.')}; nor is there a file {request.model!r}"
    return ModelNotFoundError(text, error.metadata)


def hook_points_request(model: pb.Model, selector: Any, *, expand: bool, batch_axes: bool) -> pb.ListHookPointsRequest:
    """Returns the request of the first page of hook points.

    Raises:
        SelectorInvalidError: the selector is no string and no list of them.
    """
    chosen = selectors.normalise(selector)
    return pb.ListHookPointsRequest(model=model.digest, selectors=chosen, expand=expand, batch_axes=batch_axes)


def hook_points(response: pb.ListHookPointsResponse) -> list[HookPoint]:
    """Returns the hook points of a page."""
    return [hook_point(message) for message in response.hook_points]
