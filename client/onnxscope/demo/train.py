"""Trains the demo's model and writes `digits.onnx`: `python -m onnxscope.demo.train`.

Only a maintainer runs this: the result is committed. Needs torch, onnx, onnxruntime and
scikit-learn. The graph is written node by node rather than by torch's exporter, so that
every value has the name of its layer and nothing else is in the file.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscope.demo import data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from onnxscope.demo.data import Digits

# torch and onnx are imported late, and not everyone has them: their types stay open.
Network = Any  # torch.nn.Sequential
Node = Any  # onnx.NodeProto
Proto = Any  # onnx.ModelProto

OUT = Path(__file__).with_name("digits.onnx")
REQUIRED = ("torch", "onnx", "onnxruntime", "sklearn")

SEED = 0
THREADS = 2
EPOCHS = 60
BATCH_SIZE = 32
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
MAX_SHIFT_PIXELS = 1

MIN_ACCURACY = 0.98
TOLERANCE = 1e-4
OPSET = 18
IR_VERSION = 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, tests, exports, verifies, and only then writes.

    Args:
        arguments: the command line; None takes the process's own.

    Raises:
        SystemExit: a library is missing, the accuracy on the test rows is too low, or
            the exported graph does not say what the network says.
    """
    parser = argparse.ArgumentParser(prog="python -m onnxscope.demo.train", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help="where to write (%(default)s)")
    out: Path = parser.parse_args(arguments).out

    if missing := [name for name in REQUIRED if importlib.util.find_spec(name) is None]:
        sys.exit(
            f"training the demo's model needs {', '.join(missing)}: pip install torch onnx onnxruntime scikit-learn"
        )

    digits = data.load()
    network = train(digits.train_images, digits.train_labels)
    logits = predict(network, digits.test_images)
    accuracy = float((logits.argmax(axis=1) == digits.test_labels).mean())
    _say(f"test accuracy {accuracy:.4f} on {len(logits)} rows")
    if accuracy < MIN_ACCURACY:
        sys.exit(f"not written: the test accuracy must be at least {MIN_ACCURACY}")

    model = export(network, describe(digits, accuracy))
    difference = verify(model, digits.test_images, logits)
    _say(f"largest difference between onnxruntime and torch {difference:.1e}")
    content: bytes = model.SerializeToString(deterministic=True)
    out.write_bytes(content)
    _say(f"wrote {out}, {len(content)} bytes")


def build() -> Network:
    """Builds the untrained network: `[batch, 1, 8, 8]` to `[batch, class=10]`.

    The name of a layer becomes the name of its value in the graph.
    """
    nn: Any = importlib.import_module("torch.nn")
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 3, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(16, 32, 3, padding=1),
            relu2=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv3=nn.Conv2d(32, 48, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(48, 48, 3, padding=1),
            relu4=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(192, 64),
            relu5=nn.ReLU(),
            logits=nn.Linear(64, 10),
        )
    )


def train(images: NDArray[np.float32], labels: NDArray[np.int64]) -> Network:
    """Trains a network on randomly shifted rows; the same seed gives the same weights.

    Args:
        images: float32 `[row, channel=1, height=8, width=8]` in 0..1.
        labels: int64 `[row]`.

    Returns:
        The trained network, in evaluation mode.
    """
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(mode=True)
    rng = np.random.default_rng(SEED)

    network = build().train()
    rows = len(images)
    steps = -(-rows // BATCH_SIZE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=LEARNING_RATE, epochs=EPOCHS, steps_per_epoch=steps
    )
    for epoch in range(1, EPOCHS + 1):
        shifted = torch.from_numpy(shift(images, rng))
        order = rng.permutation(rows)
        total = 0.0
        for chosen in np.array_split(order, steps):
            target = torch.from_numpy(labels[chosen])
            loss = torch.nn.functional.cross_entropy(network(shifted[chosen]), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        if epoch % 10 == 0:
            _say(f"epoch {epoch}/{EPOCHS}, training loss {total / rows:.4f}")
    return network.eval()


def shift(images: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Moves each image by up to `MAX_SHIFT_PIXELS` along both axes, with zeros behind it.

    Args:
        images: float32 `[row, channel, height, width]`.
        rng: draws the shifts.

    Returns:
        float32 `[row, channel, height, width]`, a new array.
    """
    margin = MAX_SHIFT_PIXELS
    height, width = images.shape[2:]
    padded = np.pad(images, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    top, left = rng.integers(0, 2 * margin + 1, size=(2, len(images)))
    return np.ascontiguousarray(windows[np.arange(len(images)), :, top, left])


def predict(network: Network, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Runs the network in torch.

    Args:
        network: the trained network.
        images: float32 `[row, channel=1, height=8, width=8]`.

    Returns:
        Logits, float32 `[row, class=10]`.
    """
    torch: Any = importlib.import_module("torch")
    with torch.inference_mode():
        logits: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
    return logits


def describe(digits: Digits, accuracy: float) -> dict[str, str]:
    """Says what the model was trained and tested on, for its metadata."""
    return {
        "data_set": "scikit-learn load_digits (UCI Optical Recognition of Handwritten Digits, test part), pixels / 16",
        "split": f"train_test_split(test_size={data.TEST_SIZE}, stratify=labels, "
        f"random_state={data.SPLIT_SEED}): {len(digits.train_labels)} training rows, "
        f"{len(digits.test_labels)} test rows",
        "test_accuracy": f"{accuracy:.4f}",
        "seed": str(SEED),
    }


def export(network: Network, metadata: dict[str, str]) -> Proto:
    """Writes the network as ONNX: a node a layer, each value named like its layer.

    Args:
        network: the trained network; its last layer is the output.
        metadata: goes into `metadata_props`.

    Returns:
        A checked model from `image` `[batch, 1, 8, 8]` to `logits` `[batch, 10]`, with
        its weights inside.

    Raises:
        NotImplementedError: a layer has no rule in `_node`.
    """
    onnx: Any = importlib.import_module("onnx")
    nodes = []
    initializers = []
    value = "image"
    for name, layer in network.named_children():
        weights = [
            onnx.numpy_helper.from_array(weight.detach().numpy(), f"{name}.{part}")
            for part, weight in layer.named_parameters()
        ]
        nodes.append(_node(name, layer, [value, *(weight.name for weight in weights)]))
        initializers += weights
        value = name

    float32 = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "digits",
        [onnx.helper.make_tensor_value_info("image", float32, ["batch", 1, 8, 8])],
        [onnx.helper.make_tensor_value_info(value, float32, ["batch", 10])],
        initializers,
    )
    model = onnx.helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        producer_name="onnxscope.demo.train",
    )
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


def verify(model: Proto, images: NDArray[np.float32], logits: NDArray[np.float32]) -> float:
    """Compares onnxruntime's logits with torch's, for all rows at once and for one.

    Args:
        model: the exported model.
        images: float32 `[row, channel=1, height=8, width=8]`.
        logits: torch's answer, float32 `[row, class=10]`.

    Returns:
        The largest absolute difference.

    Raises:
        SystemExit: it is larger than `TOLERANCE`.
    """
    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    difference = max(
        float(np.abs(session.run(None, {"image": images[:rows]})[0] - logits[:rows]).max()) for rows in (len(images), 1)
    )
    if not difference <= TOLERANCE:
        sys.exit(f"not written: onnxruntime and torch differ by {difference:.1e}")
    return difference


def _node(name: str, layer: Network, inputs: list[str]) -> Node:
    onnx: Any = importlib.import_module("onnx")
    nn: Any = importlib.import_module("torch.nn")
    attributes: dict[str, Any]
    match layer:
        case nn.Conv2d():
            op_type = "Conv"
            attributes = {
                "kernel_shape": layer.kernel_size,
                "pads": layer.padding * 2,
                "strides": layer.stride,
            }
        case nn.ReLU():
            op_type, attributes = "Relu", {}
        case nn.MaxPool2d():
            op_type = "MaxPool"
            size = [layer.kernel_size] * 2
            attributes = {"kernel_shape": size, "strides": size}
        case nn.Flatten():
            op_type, attributes = "Flatten", {"axis": 1}
        case nn.Linear():
            op_type, attributes = "Gemm", {"transB": 1}
        case _:
            raise NotImplementedError(type(layer).__name__)
    return onnx.helper.make_node(op_type, inputs, [name], name=name, **attributes)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
