"""Models and catalogs for the catalog's tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscope_server.catalog.catalog import Catalog
from onnxscope_server.catalog.model import CatalogModel

MLP = """
<ir_version: 8, opset_import: ["" : 17]>
mlp (float[batch, 4] x) => (float[batch, 2] y)
<float[4, 3] w1 = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3, 2] w2 = {1,2,3,4,5,6}>
{
    h = MatMul(x, w1)
    r = Relu(h)
    y = MatMul(r, w2)
}
"""


@pytest.fixture(scope="session")
def mlp() -> bytes:
    """A perceptron with one hidden layer."""
    return onnx.parser.parse_model(MLP).SerializeToString()


@pytest.fixture
def open_catalog(tmp_path: Path) -> Iterator[Callable[..., Catalog]]:
    """Opens catalogs on one data folder; those left open are closed."""
    opened: list[Catalog] = []

    def open_(**settings: int) -> Catalog:
        for catalog in opened:
            catalog.close()
        opened.clear()
        catalog = Catalog(tmp_path / "data", **{"max_model_bytes": 1 << 30, **settings})
        opened.append(catalog)
        return catalog

    yield open_
    for catalog in opened:
        catalog.close()


@pytest.fixture
def catalog(open_catalog: Callable[..., Catalog]) -> Catalog:
    """An empty catalog."""
    return open_catalog()


@pytest.fixture(scope="session")
def accept() -> Callable[[CatalogModel], None]:
    """A trial load that takes every model."""
    return lambda _: None


@pytest.fixture(scope="session")
def external() -> Callable[..., bytes]:
    """Makes a model y = x + w with w [1024] in external data at a location."""

    def make(location: str = "w.bin", *, offset: int = 0, length: int | None = 4096) -> bytes:
        weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1024])
        weight.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            if value is not None:
                weight.external_data.add(key=key, value=str(value))
        graph = helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1024])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1024])],
            [weight],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return model.SerializeToString()

    return make


@pytest.fixture(scope="session")
def weights() -> bytes:
    """External data for `external`: 1024 float32."""
    return np.arange(1024, dtype=np.float32).tobytes()


@pytest.fixture(scope="session")
def large() -> bytes:
    """A model with 9 MiB of inline weights, a small one and a shape among them."""
    rng = np.random.default_rng(0)
    inline = [rng.standard_normal((1024, 768), dtype=np.float32) for _ in range(3)]
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "w0"], ["a"]),
            helper.make_node("Mul", ["a", "w1"], ["b"]),
            helper.make_node("Add", ["b", "w2"], ["c"]),
            helper.make_node("Reshape", ["c", "shape"], ["d"]),
            helper.make_node("Add", ["d", "one"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1024, 768])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(inline[0], "w0"),
            helper.make_tensor("w1", TensorProto.FLOAT, [1024, 768], inline[1].reshape(-1)),
            numpy_helper.from_array(np.array([768, 1024], np.int64), "shape"),
            numpy_helper.from_array(np.float32(1), "one"),
            numpy_helper.from_array(inline[2], "w2"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


@pytest.fixture(scope="session")
def sha256() -> Callable[[bytes], str]:
    """Returns a SHA-256 in hex."""
    return lambda data: hashlib.sha256(data).hexdigest()
