"""Small models, plans and runs for the tests of rewriting."""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnx
import onnxruntime as ort
import pytest
from onnx import parser

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import Capture, Output, OutputMode, Plan, Reduction, Segment


@pytest.fixture(scope="session")
def model_of():
    """Makes a catalog model from ONNX's text form or from a ModelProto."""

    def make(source: str | onnx.ModelProto, folder=None) -> CatalogModel:
        proto = parser.parse_model(source) if isinstance(source, str) else source
        return CatalogModel.from_bytes(proto.SerializeToString(), folder)

    return make


@pytest.fixture(scope="session")
def plan_of():
    """Makes a plan from addresses, each alone or with a reduction."""

    def make(*captures: str | tuple[str, Reduction], outputs=OutputMode.NONE, expand=False) -> Plan:
        pairs = [(item, None) if isinstance(item, str) else item for item in captures]
        return Plan("digest", tuple(Capture(*pair, None) for pair in pairs), outputs, exact=False, expand=expand)

    return make


@pytest.fixture(scope="session")
def run():
    """Runs a segment or a serialised model; returns its outputs by name."""

    def execute(source: Segment | bytes, feeds, *, exact=False, optimised=None):
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        if exact:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if optimised is not None:
            options.optimized_model_filepath = str(optimised)
        graph = source
        if isinstance(source, Segment):
            graph = source.graph
            wanted = {*source.inputs, *source.masks.values()}
            feeds = {name: value for name, value in feeds.items() if name in wanted}
            if source.data_folder is not None:
                options.add_session_config_entry(
                    "session.model_external_initializers_file_folder_path", str(source.data_folder)
                )
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        names = [item.name for item in session.get_outputs()]
        return Values(zip(names, session.run(names, feeds), strict=True))

    return execute


class Values(dict):
    """Values by output name, or by the reading of an output."""

    def __getitem__(self, key):
        """Returns one value."""
        return super().__getitem__(key.name if isinstance(key, Output) else key)


@pytest.fixture(scope="session")
def parts_of():
    """Lists the addresses of the parts of a model's operators."""

    def listed(model: CatalogModel) -> list[str]:
        plain = {point.address for point in model.hook_points}
        return [point.address for point in model.points(expand=True) if point.address not in plain]

    return listed
