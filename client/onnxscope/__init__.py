"""onnxscope: an oscilloscope for neural networks.

    import onnxscope

    with onnxscope.connect("localhost:8001") as scope:      # or onnxscope.local()
        model = scope.load("digits.onnx")
        print(model.hook_points())
        acts = model.capture(images, at="op:Relu")
        acts["relu_5"], acts.outputs["y"]

The errors are in `onnxscope.errors`, reductions in `onnxscope.reduce`, coroutines in `onnxscope.aio`.
"""

from importlib.metadata import version as _version

from onnxscope import aio, errors, interventions, reduce
from onnxscope.channel import TLS
from onnxscope.client import Scope, connect, local
from onnxscope.errors import (
    CallCancelledError,
    CustomOpsInvalidError,
    DataInvalidError,
    DeadlineExceededError,
    ExternalDataMissingError,
    HookPointNotFoundError,
    InputMismatchError,
    InternalError,
    LimitExceededError,
    ModelExistsError,
    ModelFileNotFoundError,
    ModelInvalidError,
    ModelNotFoundError,
    ModelReadOnlyError,
    NotImplementedYet,
    OnnxscopeError,
    OutOfMemoryError,
    ProbeExistsError,
    ProbeInvalidError,
    ProbeNotFoundError,
    ProbeUnfaithfulError,
    ProviderUnavailableError,
    ReductionInvalidError,
    RunFailedError,
    SelectorInvalidError,
    StreamCutError,
    UnauthenticatedError,
    UnavailableError,
    UploadInvalidError,
    ValueInvalidError,
)
from onnxscope.interventions import ablate, clamp, patch, steer
from onnxscope.model import Model
from onnxscope.probes.at_hand import fit_probe
from onnxscope.probes.listing import Probes
from onnxscope.probes.probe import Probe
from onnxscope.probes.report import Interval, ProbeReport
from onnxscope.probes.result import ProbeResult
from onnxscope.probes.sweep import Sweep
from onnxscope.results import (
    Activations,
    CapturePlan,
    Fidelity,
    HookPoint,
    HookPoints,
    ModelInfo,
    Models,
    Quantization,
    RunResult,
    TensorSpec,
)

__version__ = _version("onnxscope")

__all__ = [
    "TLS",
    "Activations",
    "CallCancelledError",
    "CapturePlan",
    "CustomOpsInvalidError",
    "DataInvalidError",
    "DeadlineExceededError",
    "ExternalDataMissingError",
    "Fidelity",
    "HookPoint",
    "HookPointNotFoundError",
    "HookPoints",
    "InputMismatchError",
    "InternalError",
    "Interval",
    "LimitExceededError",
    "Model",
    "ModelExistsError",
    "ModelFileNotFoundError",
    "ModelInfo",
    "ModelInvalidError",
    "ModelNotFoundError",
    "ModelReadOnlyError",
    "Models",
    "NotImplementedYet",
    "OnnxscopeError",
    "OutOfMemoryError",
    "Probe",
    "ProbeExistsError",
    "ProbeInvalidError",
    "ProbeNotFoundError",
    "ProbeReport",
    "ProbeResult",
    "ProbeUnfaithfulError",
    "Probes",
    "ProviderUnavailableError",
    "Quantization",
    "ReductionInvalidError",
    "RunFailedError",
    "RunResult",
    "Scope",
    "SelectorInvalidError",
    "StreamCutError",
    "Sweep",
    "TensorSpec",
    "UnauthenticatedError",
    "UnavailableError",
    "UploadInvalidError",
    "ValueInvalidError",
    "ablate",
    "aio",
    "clamp",
    "connect",
    "errors",
    "fit_probe",
    "interventions",
    "local",
    "patch",
    "reduce",
    "steer",
]
