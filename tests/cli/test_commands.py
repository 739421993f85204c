"""The commands, as users type them."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import onnx.parser
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from onnxscope.cli import archives
from onnxscope.cli.app import app
from onnxscope.cli.later import COMMANDS


def onnxscope(*arguments):
    """Runs the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def process(*arguments, **options):
    """Runs the command line in a process of its own."""
    code = "from onnxscope.cli import main; main()"
    command = [sys.executable, "-c", code, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.fixture
def images(tmp_path):
    """Writes five random rows for the digits model; gives the path."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((5, 1, 8, 8), np.float32))
    return tmp_path / "x.npy"


@pytest.fixture
def three_inputs(tmp_path):
    """Writes a model that takes a matrix, a scalar and text; gives the path."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 2] x, float k, string[m] s) => (float[n, 2] y, string[m] t) { y = Add(x, k)  t = Identity(s) }"""
    (tmp_path / "three.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return tmp_path / "three.onnx"


@pytest.fixture
def bfloat16_output(tmp_path):
    """Writes a model that gives bfloat16; gives the path."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[n] x) => (bfloat16[n] b) { b = Cast<to = 16>(x) }"""
    (tmp_path / "bfloat16.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return tmp_path / "bfloat16.onnx"


def test_inspect_prints_inputs_outputs_and_hook_points(digits_path):
    """Shapes and all; where stdout is no terminal nothing is cut or folded."""
    result = onnxscope("inspect", digits_path)
    assert result.exit_code == 0
    assert "image: float32[batch, 1, 8, 8]" in result.stdout
    assert "logits: float32[batch, 10]" in result.stdout
    assert "[batch, 16, 8, 8]" in result.stdout
    assert "14 hook points" in result.stdout


def test_inspect_writes_json_alone(digits_path):
    """Selectors choose; progress and remarks stay away from stdout."""
    document = json.loads(onnxscope("inspect", digits_path, "op:Relu", "!relu5", "--json").stdout)
    assert [point["address"] for point in document["hook_points"]] == ["relu1", "relu2", "relu3", "relu4"]
    assert document["hook_points"][0]["batch_axis"] == 0
    assert document["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}]


def test_inspect_shows_other_kinds_when_asked(digits_path):
    """--kind adds to the selectors, --all lists everything once."""
    weights = json.loads(onnxscope("inspect", digits_path, "--kind", "weight", "--json").stdout)["hook_points"]
    assert {point["kind"] for point in weights} == {"weight"}
    every = json.loads(onnxscope("inspect", digits_path, "--all", "--json").stdout)["hook_points"]
    addresses = [point["address"] for point in every]
    unused = sum(point["kind"] == "unused" for point in every)
    assert len(addresses) == len(set(addresses)) == 14 + 1 + len(weights) + unused


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_capture_writes_what_python_would_get(digits_path, images, tmp_path, suffix):
    """Activations by address, outputs beside them."""
    import onnxscope as client

    out = tmp_path / f"acts{suffix}"
    result = onnxscope("capture", digits_path, "--input", f"image={images}", "--at", "op:Relu", "--out", out)
    assert result.exit_code == 0
    assert f"Written: {out}" in result.stdout
    with client.local() as scope:
        acts = scope.load(digits_path).capture(np.load(images), at="op:Relu")
    written = np.load(out) if suffix == ".npz" else load_file(out)
    assert sorted(written) == sorted([*acts, "outputs/logits"])
    assert all(np.array_equal(written[address], acts[address]) for address in acts)
    np.testing.assert_array_equal(written["outputs/logits"], acts.outputs["logits"])


def test_capture_in_batches_is_the_same(digits_path, images, tmp_path):
    """Rows come back in one piece, weights once."""
    base = ["capture", digits_path, "-i", images, "--at", "relu*", "--at", "conv1.weight"]
    assert onnxscope(*base, "-o", tmp_path / "whole.npz").exit_code == 0
    assert onnxscope(*base, "-o", tmp_path / "batches.npz", "--batch-size", 2).exit_code == 0
    whole, batches = np.load(tmp_path / "whole.npz"), np.load(tmp_path / "batches.npz")
    assert sorted(whole) == sorted(batches)
    assert all(whole[name].shape == batches[name].shape for name in whole)
    assert all(np.allclose(whole[name], batches[name], atol=1e-5) for name in whole)


def test_parts_and_real_numbers_come_when_asked(tmp_path):
    """--expand shows and captures the parts of operators, --dequantize real numbers; in batches too."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[n, 4] x) => (float[n, 4] y) {
        s = Constant <value = float {0.5}> ()  z = Constant <value = uint8 {3}> ()
        q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)  y = Softmax (d) }"""
    model, x = tmp_path / "quantised.onnx", tmp_path / "x.npy"
    model.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    np.save(x, np.arange(8, dtype=np.float32).reshape(2, 4))
    shown = json.loads(onnxscope("inspect", model, "*::expand::*", "--expand", "--json").stdout)["hook_points"]
    assert "Softmax_0::expand::X_Max" in {point["address"].replace("ReduceMax", "Max") for point in shown}
    at = ["--at", "q", "--at", shown[0]["address"], "--expand", "--dequantize"]
    for batches in ([], ["--batch-size", "1"]):
        out = tmp_path / "acts.safetensors"
        result = onnxscope("capture", model, "--input", x, *at, "--out", out, *batches)
        assert result.exit_code == 0, result.output
        found = load_file(out)
        np.testing.assert_array_equal(found["q"], np.load(x))
        assert shown[0]["address"] in found


def test_capture_says_everything_in_json(digits_path, images):
    """Statistics, timings and fidelity; no NaN, which is no JSON."""
    result = onnxscope("capture", digits_path, "-i", images, "--at", "relu1", "--json", "--reduce", "spatial_mean")
    document = json.loads(result.stdout)
    assert [(value["name"], value["role"], value["shape"]) for value in document["values"]] == [
        ("relu1", "activation", [5, 16]),
        ("logits", "output", [5, 10]),
    ]
    assert document["timings"]["run"] > 0
    assert document["fidelity"].keys() == {"fusion_blocked", "changed_operators", "max_output_difference"}


def test_outputs_can_be_left_out_and_one_array_goes_into_npy(digits_path, images, tmp_path):
    """--no-outputs."""
    result = onnxscope("capture", digits_path, "-i", images, "--at", "relu5", "--no-outputs", "-o", tmp_path / "a.npy")
    assert result.exit_code == 0
    assert np.load(tmp_path / "a.npy").shape == (5, 64)


def test_several_inputs_of_several_types(three_inputs, tmp_path):
    """JSON in the command gets the declared dtype; text goes into .npz."""
    base = ["capture", three_inputs, "-i", "x:=[[1, 2]]", "-i", "k:=0.5", "-i", 's:=["a", "b"]']
    assert json.loads(onnxscope(*base, "--json").stdout)["values"][0]["max"] == 2.5
    assert onnxscope(*base, "-o", tmp_path / "t.npz").exit_code == 0
    assert np.load(tmp_path / "t.npz")["outputs/t"].tolist() == ["a", "b"]


def test_bfloat16_goes_into_safetensors(bfloat16_output, tmp_path):
    """As itself; .npz, which would degrade it, is refused."""
    base = ["capture", bfloat16_output, "-i", "x:=[1, 2.5]"]
    refused = onnxscope(*base, "-o", tmp_path / "a.npz")
    assert refused.exit_code == 1
    assert "bfloat16" in refused.stderr
    assert ".safetensors" in refused.stderr
    assert onnxscope(*base, "-o", tmp_path / "b.safetensors").exit_code == 0
    written = archives.load(tmp_path / "b.safetensors")["outputs/b"]
    assert written.dtype.name == "bfloat16"
    assert written.tolist() == [1, 2.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "nope.onnx"], "there is no file nope.onnx"),
        (["inspect", "DIGITS", "relu55"], "relu5"),
        (["capture", "DIGITS"], "--input NAME=FILE"),
        (["capture", "DIGITS", "-i", "image:=[[1]]"], "image: float32[batch, 1, 8, 8]"),
        (["capture", "DIGITS", "-i", "image:=1", "-o", "a.h5"], ".npz or .safetensors"),
        (["capture", "DIGITS", "-i", "image:=1", "--at", "relu1", "--reduce", "median"], "median"),
    ],
)
def test_errors_are_short_and_say_what_to_do(digits_path, arguments, message):
    """Exit code 1, nothing on stdout, no traceback."""
    result = onnxscope(*[digits_path if argument == "DIGITS" else argument for argument in arguments])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["capture"],
        ["capture", "m.onnx", "--reduce", "mean"],
        ["capture", "m.onnx", "--rgb", "--grayscale"],
        ["capture", "m.onnx", "--no-outputs", "--instrumented"],
        ["capture", "m.onnx", "--batch-size", "0"],
        ["inspect", "m.onnx", "--all", "x"],
        ["inspect", "m.onnx", "--kind", "layer"],
    ],
)
def test_misuse_has_its_own_exit_code(arguments):
    """2, as everywhere."""
    assert onnxscope(*arguments).exit_code == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_that_are_not_built_yet_say_so(name):
    """Whatever they are given; their help exists."""
    result = onnxscope(name, "model.onnx", "--at", "x")
    assert result.exit_code == 1
    assert "not built yet" in result.stderr
    assert onnxscope(name, "--help").exit_code == 0


def test_a_defect_shows_its_traceback_only_when_asked(tmp_path):
    """ONNXSCOPE_DEBUG=1."""
    quiet = process("inspect", tmp_path / "nope.onnx", env=os.environ | {"ONNXSCOPE_DEBUG": "0"})
    loud = process("inspect", tmp_path / "nope.onnx", env=os.environ | {"ONNXSCOPE_DEBUG": "1"})
    assert (quiet.returncode, quiet.stdout) == (1, "")
    assert quiet.stderr.count("\n") == 1
    assert "Traceback" in loud.stderr


def test_the_version_is_the_packages():
    """Onnxscope --version."""
    from importlib.metadata import version

    assert onnxscope("--version").stdout == f"onnxscope {version('onnxscope')}\n"


def test_without_the_extra_it_says_what_to_install():
    """Typer is not there: one line, no traceback."""
    code = "import sys; sys.modules['typer'] = None\nfrom onnxscope.cli import main; main(['--version'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "pip install 'onnxscope[cli]'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("missing", ["sklearn", "matplotlib"])
def test_the_demo_says_what_it_lacks(missing, tmp_path):
    """One line with the command that installs it."""
    code = f"import sys; sys.modules['{missing}'] = None\nfrom onnxscope.cli import main; main(['demo'])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert result.returncode == 1
    assert "pip install 'onnxscope[server]'" in result.stderr
    assert missing in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_enough_is_no_error(digits_path):
    """As `| head -1` is."""
    code = "from onnxscope.cli import main; main()"
    command = [sys.executable, "-c", code, "inspect", str(digits_path), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(60) in (0, 1)


def test_serve_takes_the_servers_flags_and_a_model_runs_there(digits_path, images, tmp_path):
    """The help has its settings, a wrong one is misuse, and capture gives the same there as here."""
    help_text = onnxscope_serve_help()
    assert "--max-model-bytes" in help_text
    assert process("serve", "--port", "many").returncode == 2
    code = "from onnxscope.cli import main; main()"
    flags = ["serve", "--port", "0", "--http-port", "0", "--token", "s3cret", "--drain-seconds", "0"]
    with subprocess.Popen([sys.executable, "-c", code, *flags], stderr=subprocess.PIPE, text=True) as server:
        try:
            port = next(line for line in server.stderr if "serving on port" in line).split()[-1]
            base = ["capture", digits_path, "-i", images, "--at", "relu5"]
            there = ["--server", f"localhost:{port}", "--token", "s3cret"]
            assert onnxscope(*base, "-o", tmp_path / "here.npz").exit_code == 0
            assert onnxscope(*base, *there, "-o", tmp_path / "there.npz").exit_code == 0
            refused = onnxscope(*base, "--server", f"localhost:{port}")
            assert "--token" in refused.stderr
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 0
    here, there = np.load(tmp_path / "here.npz"), np.load(tmp_path / "there.npz")
    assert all(np.array_equal(here[name], there[name]) for name in here)


def onnxscope_serve_help():
    """Returns what `onnxscope serve --help` prints."""
    result = process("serve", "--help")
    assert result.returncode == 0
    return result.stdout
