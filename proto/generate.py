"""Regenerates client/onnxscope/v1 from the protos; with --check, fails when it is stale.

The generator is old on purpose: code from grpcio-tools 1.72 (protobuf 6.30) runs on protobuf 6 and 7. It wants
protobuf 6 itself, so it lives in a virtual environment of its own.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PROTO = Path(__file__).resolve().parent
ROOT = PROTO.parent
TARGET = ROOT / "client" / "onnxscope" / "v1"
GENERATOR = "1.72.2"
TOOLS = ROOT / ".cache" / f"grpcio-tools-{GENERATOR}"


def tool_python() -> Path:
    """Returns the generator's Python, after making its environment if need be."""
    python = TOOLS / "bin" / "python"
    if not (TOOLS / "ready").exists():
        venv.create(TOOLS, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", f"grpcio-tools=={GENERATOR}", "setuptools<81"], check=True
        )
        (TOOLS / "ready").touch()
    return python


def generate(target: Path) -> None:
    """Writes the generated modules of every proto of `onnxscope.v1` into `target`."""
    protos = sorted(str(path.relative_to(PROTO)) for path in (PROTO / "onnxscope" / "v1").glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        options = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
        command = [tool_python(), "-m", "grpc_tools.protoc", f"-I{PROTO}", *options, *protos]
        subprocess.run(command, check=True)
        target.mkdir(parents=True, exist_ok=True)
        for old in target.glob("*_pb2*"):
            old.unlink()
        for new in sorted(Path(folder, "onnxscope", "v1").iterdir()):
            empty = new.name.endswith("_pb2_grpc.py") and "class " not in new.read_text()
            if not empty:
                shutil.copy(new, target / new.name)


def stale() -> list[str]:
    """Returns the names of generated modules that differ from what the protos give now."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        names = {path.name for place in (fresh, TARGET) for path in place.glob("*_pb2*")}
        return sorted(filecmp.cmpfiles(fresh, TARGET, names, shallow=False)[1]) + sorted(
            name for name in names if not ((fresh / name).exists() and (TARGET / name).exists())
        )


def main() -> int:
    """Generates, or checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the code is stale")
    if not parser.parse_args().check:
        generate(TARGET)
        return 0
    names = stale()
    if names:
        print("stale, run proto/generate.py:", *names, sep="\n  ", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
