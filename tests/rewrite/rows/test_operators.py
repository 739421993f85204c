"""The rules against onnxruntime, on the models that ONNX tests its operators with."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.backend.test.case.node import collect_testcases
from tests.rewrite.rows.conftest import check_by_running

from onnxscope_server.domain import Segment
from onnxscope_server.rewrite.rows import MixedRowsError, row_axes


def _cases() -> Iterator[tuple[str, onnx.ModelProto, list[np.ndarray]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            values = [np.asarray(value) for value in case.data_sets[0][0] if isinstance(value, np.ndarray | np.generic)]
            kinds = {info.type.WhichOneof("value") for info in case.model.graph.input}
            if kinds == {"tensor_type"} and len(values) == len(case.data_sets[0][0]) and values[0].ndim:
                yield case.name, case.model, values


def _with_rows(model: onnx.ModelProto, values: Sequence[np.ndarray], rowed: Sequence[int]) -> Segment:
    """Frees the first axis of some inputs and makes weights of the others."""
    proto = onnx.ModelProto.FromString(model.SerializeToString())
    infos = list(proto.graph.input)
    for index, (info, value) in enumerate(zip(infos, values, strict=True)):
        if index in rowed:
            info.type.tensor_type.shape.dim[0].dim_param = "rows"
        else:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(value, info.name))
    kept = [onnx.ValueInfoProto.FromString(infos[index].SerializeToString()) for index in rowed]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    for info in proto.graph.output:
        if info.type.WhichOneof("value") == "tensor_type":
            info.type.tensor_type.ClearField("shape")
    return Segment(
        proto.SerializeToString(),
        None,
        {},
        tuple(info.name for info in proto.graph.output),
        tuple(info.name for info in kept),
        {},
        len(proto.graph.node),
    )


def _choices(values: Sequence[np.ndarray]) -> set[tuple[int, ...]]:
    """Which inputs may have rows: all that are as long as the first, or one of the first two alone."""
    alike = tuple(index for index, value in enumerate(values) if value.ndim and len(value) == len(values[0]))
    return {alike, (0,)} | ({(1,)} if len(values) > 1 and values[1].ndim else set())


def _proved() -> Iterator[tuple[str, str]]:
    """Yields name and operator of each model that was proved and stood the test."""
    for name, model, values in _cases():
        for rowed in sorted(_choices(values)):
            if not len(values[rowed[0]]):
                continue
            segment = _with_rows(model, values, rowed)
            names = segment.inputs
            try:
                axes = row_axes(
                    segment, {key: values[index].shape[1:] for key, index in zip(names, rowed, strict=True)}
                )
                ort.InferenceSession(segment.graph, providers=["CPUExecutionProvider"])
            except MixedRowsError:
                continue
            except Exception as error:
                if type(error).__module__.startswith("onnxruntime"):
                    # it lacks some kernels
                    continue
                raise
            count = len(values[rowed[0]])
            every = list(range(count))
            for parts in ([[0], [count - 1]], [every[::-1], every, [0, 0]]):
                feeds = [{key: values[index][rows] for key, index in zip(names, rowed, strict=True)} for rows in parts]
                try:
                    check_by_running(segment, feeds, axes)
                except AssertionError as error:
                    raise AssertionError(f"{name} with rows in {rowed}: {error}") from error
                except Exception:  # noqa: BLE001  # data that some kernels refuse
                    continue
                yield name, model.graph.node[0].op_type


@pytest.mark.timeout(300)
def test_what_is_proved_of_an_operator_holds() -> None:
    """Of all of ONNX's models that are proved to keep rows apart, each row gives together what it gives alone."""
    stood = list(_proved())
    assert len({name for name, _ in stood}) > 700
    assert len({operator for _, operator in stood}) > 120
