"""Large inline weights move out of the graph, and the model stays the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from onnxscope_server.catalog import weights
from onnxscope_server.errors import ExternalDataMissingError, ModelInvalidError


def run(data, folder, x):
    """Runs a model with its external data in a folder."""
    options = onnxruntime.SessionOptions()
    if folder:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def ingested(tmp_path, data):
    """Ingests bytes as a file."""
    (tmp_path / "m.onnx").write_bytes(data)
    return weights.ingest(tmp_path / "m.onnx", tmp_path / "data")


def test_large_weights_move_out_and_outputs_stay_bit_equal(tmp_path, large):
    """Raw and typed weights go to the file, small tensors and shapes stay, the model computes the same bits."""
    found = ingested(tmp_path, large)
    assert found.moved
    assert len(found.graph_bytes) < 2000
    tensors = {tensor.name: tensor for tensor in onnx.ModelProto.FromString(found.graph_bytes).graph.initializer}
    outside = {name for name, tensor in tensors.items() if tensor.data_location == onnx.TensorProto.EXTERNAL}
    assert outside == {"w0", "w1", "w2"}
    assert numpy_helper.to_array(tensors["shape"]).tolist() == [768, 1024]
    for name in outside:
        fields = {entry.key: int(entry.value) for entry in tensors[name].external_data if entry.key != "location"}
        assert fields == {"offset": fields["offset"], "length": 1024 * 768 * 4}
        assert fields["offset"] % 4096 == 0
    x = np.ones((1024, 768), np.float32)
    np.testing.assert_array_equal(run(found.graph_bytes, tmp_path / "data", x), run(large, None, x))


def test_small_weights_stay_where_they_are(tmp_path, mlp):
    """Below the threshold the graph is the file, and no data folder is made."""
    found = ingested(tmp_path, mlp)
    assert found.graph_bytes == mlp
    assert not found.moved
    assert not (tmp_path / "data").exists()


def test_a_model_with_external_data_stays_as_it_is(tmp_path, large, external):
    """Inline weights beside external data are left alone, so that paths cannot clash."""
    both = onnx.ModelProto.FromString(large)
    both.graph.initializer.extend(onnx.ModelProto.FromString(external("weights.bin")).graph.initializer)
    data = both.SerializeToString()
    found = ingested(tmp_path, data)
    assert found.graph_bytes == data
    assert found.needed == {"weights.bin": 4096}
    assert not found.moved


def test_a_graph_in_several_pieces_is_put_together(tmp_path, large):
    """Protobuf lets a graph come in pieces; the weights of each are found."""
    model = onnx.ModelProto.FromString(large)
    first, second = onnx.ModelProto.FromString(large), onnx.ModelProto()
    second.graph.initializer.append(model.graph.initializer[4])
    del first.graph.initializer[4]
    pieces = first.SerializeToString() + second.SerializeToString()
    found = ingested(tmp_path, pieces)
    x = np.ones((1024, 768), np.float32)
    np.testing.assert_array_equal(run(found.graph_bytes, tmp_path / "data", x), run(large, None, x))


@pytest.mark.parametrize("cut", [1, 100, 5_000_000])
def test_a_file_cut_short_is_refused(tmp_path, large, cut):
    """A download that broke off is told from a model."""
    with pytest.raises(ModelInvalidError, match="cut short"):
        ingested(tmp_path, large[:-cut])


@pytest.mark.parametrize("data", [b"", b"hello"])
def test_what_is_no_model_is_refused(tmp_path, data):
    """An empty file and text raise the readable error."""
    with pytest.raises(ModelInvalidError, match=r"empty|text"):
        ingested(tmp_path, data)


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "../x",
        "a/../../x",
        "C:\\x",
        "C:x",
        "a\\b",
        "",
        ".",
        "a/../b",
        "*/_ORT_MEM_ADDR_/*",
        "a\nb",
        "//x",
    ],
)
def test_external_paths_out_of_the_folder_are_refused(tmp_path, external, location):
    """Absolute paths, drives, backslashes, '..' and onnxruntime's memory addresses never get past the graph."""
    with pytest.raises(ExternalDataMissingError, match="inside the model's folder"):
        ingested(tmp_path, external(location))


def test_external_data_is_found_wherever_a_tensor_may_stand(tmp_path, external):
    """Bodies, functions, attributes and sparse tensors name files too."""
    model = onnx.ModelProto.FromString(external("top"))

    def stub(name):
        tensor = onnx.TensorProto(name=name, data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=f"./{name}")
        tensor.external_data.add(key="offset", value="8")
        return tensor

    node = model.graph.node.add(op_type="If")
    node.attribute.add(name="then_branch", type=5).g.initializer.append(stub("body"))
    node.attribute.add(name="t", type=4).t.CopyFrom(stub("attribute"))
    node.attribute.add(name="ts", type=9).tensors.append(stub("attributes"))
    node.attribute.add(name="s", type=11).sparse_tensor.values.CopyFrom(stub("sparse"))
    model.functions.add(name="f").node.add(op_type="Constant").attribute.add(name="v", type=4).t.CopyFrom(
        stub("function")
    )
    model.graph.sparse_initializer.add().values.CopyFrom(stub("sparse/initializer"))
    names = ("body", "attribute", "attributes", "function", "sparse/initializer")
    with pytest.raises(ModelInvalidError, match="a file and a folder of one name"):
        ingested(tmp_path, model.SerializeToString())
    del node.attribute[-1]
    assert ingested(tmp_path, model.SerializeToString()).needed == {"top": 4096, **dict.fromkeys(names, 8)}
