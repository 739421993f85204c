"""Exports jax2onnx's own examples; runs in an environment of its own that has jax2onnx (see `fetch`)."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import jax
import jax2onnx
from jax2onnx.plugins import plugin_system


def main(folder: Path) -> None:
    """Writes a file for every example that exports."""
    folder.mkdir(parents=True, exist_ok=True)
    plugin_system.import_all_plugins()
    done = failed = 0
    for key, example in sorted(plugin_system.EXAMPLE_REGISTRY.items()):
        for case in example.get("testcases", ()):
            try:
                _export(case, folder / f"{key.replace('::', '_').replace('.', '_')}_{case['testcase']}.onnx")
                done += 1
            except Exception as error:  # noqa: BLE001 -- examples that need more than jax2onnx are left out
                print(f"{case.get('testcase')}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
                failed += 1
    print(f"{done} exported, {failed} not")


def _export(case: dict[str, object], file: Path) -> None:
    if file.exists():
        return
    function = case["callable"]
    if hasattr(function, "instantiate"):
        function = function.instantiate()
    elif hasattr(function, "with_dtype"):
        function = function.with_dtype(jax.numpy.float32)
    if "input_values" in case:
        inputs = [
            jax.ShapeDtypeStruct(jax.numpy.shape(item), jax.numpy.result_type(item)) for item in case["input_values"]
        ]
    else:
        shapes = list(case.get("input_shapes", ()))
        types = list(case.get("input_dtypes", [jax.numpy.float32] * len(shapes)))
        inputs = [
            (shape if any(isinstance(size, str) for size in shape) else jax.ShapeDtypeStruct(tuple(shape), kind))
            for shape, kind in zip(shapes, types, strict=False)
        ]
    known = inspect.signature(jax2onnx.to_onnx).parameters
    options = {name: case[name] for name in ("input_params", "opset") if name in case and name in known}
    jax2onnx.to_onnx(function, inputs, model_name=file.stem, return_mode="file", output_path=str(file), **options)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
