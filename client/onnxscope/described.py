"""What a model says of itself, the same for `client` and `aio`."""

from __future__ import annotations

from onnxscope import decode
from onnxscope.promised import PromisedModel
from onnxscope.results import ModelInfo, TensorSpec
from onnxscope.v1 import model_service_pb2 as pb


class DescribedModel(PromisedModel):
    """A model of a scope's catalog.

    Args:
        message: the server's description.
    """

    def __init__(self, message: pb.Model) -> None:
        self._message = message
        self._info: ModelInfo = decode.model(message)

    @property
    def info(self) -> ModelInfo:
        """All that the catalog says of it."""
        return self._info

    @property
    def name(self) -> str:
        """What the catalog calls it."""
        return self._info.name

    @property
    def version(self) -> str:
        """Tells the models of one name apart."""
        return self._info.version

    @property
    def digest(self) -> str:
        """SHA-256 of the model, in hex."""
        return self._info.digest

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What a run must be given."""
        return self._info.inputs

    @property
    def optional_inputs(self) -> tuple[TensorSpec, ...]:
        """What a run may be given, because it has a default."""
        return self._info.optional_inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the model declares to bring."""
        return self._info.outputs

    @property
    def providers(self) -> tuple[str, ...]:
        """The execution providers that run it, first choice first."""
        return self._info.providers

    def __repr__(self) -> str:
        lines = [f"model {self.name!r}, version {self.version}, digest {self.digest[:12]}"]
        lines += [f"  input   {spec}" for spec in self.inputs]
        lines += [f"  input   {spec} (has a default)" for spec in self.optional_inputs]
        lines += [f"  output  {spec}" for spec in self.outputs]
        return "\n".join([*lines, f"  runs on {', '.join(self.providers)}"])
