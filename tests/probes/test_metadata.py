"""What a probe's ONNX file says of it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxscope_server.domain import Reduction, ReductionKind
from onnxscope_server.errors import ProbeInvalidError
from onnxscope_server.probe_domain import Metric, ProbeInfo, ProbeKind, ProbeReport, Score, Task
from onnxscope_server.probes import metadata

FOREIGN = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["" : 13]>
    other (float[N, 3] x) => (float[N, 3] y, float[N, 3] z) { y = Relu(x)  z = Neg(x) }
""").SerializeToString()

NUMBERS = st.floats(allow_nan=False)
COUNTS = st.integers(min_value=-(2**63), max_value=2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | COUNTS | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
SCORES = st.builds(Score, st.sampled_from(Metric), NUMBERS, NUMBERS, NUMBERS)
REPORTS = st.builds(
    ProbeReport,
    scores=st.lists(SCORES, min_size=1, max_size=3).map(tuple),
    train_score=NUMBERS,
    train_count=COUNTS,
    test_count=COUNTS,
    seed=COUNTS,
    baseline=st.none() | NUMBERS,
    input_score=st.none() | NUMBERS,
    control_score=st.none() | NUMBERS,
    control_types=st.text(),
    codelength_bits=st.none() | NUMBERS,
    compression=st.none() | NUMBERS,
    baseline_compression=st.none() | NUMBERS,
    shuffled_score=st.none() | NUMBERS,
    learning_curve=st.lists(st.tuples(COUNTS, NUMBERS), max_size=3).map(tuple),
    confusion=st.lists(st.lists(COUNTS, max_size=3).map(tuple), max_size=3).map(tuple),
    fold_count=COUNTS,
    notes=st.lists(st.text(), max_size=2).map(tuple),
)
REDUCTIONS = st.builds(
    Reduction,
    st.sampled_from(ReductionKind),
    axis=st.none() | COUNTS,
    index=st.none() | COUNTS,
    k=st.none() | COUNTS,
    mask_input=st.none() | st.text(),
    mask_value=st.none() | st.text(),
)
INFOS = st.builds(
    ProbeInfo,
    name=st.text(st.characters()),  # also halves of surrogate pairs
    model_digest=st.text(),
    address=st.text(st.characters()),
    reduction=st.none() | REDUCTIONS,
    kind=st.sampled_from(ProbeKind),
    task=st.sampled_from(Task),
    classes=st.lists(COUNTS | st.text(), max_size=4).map(tuple),
    params=st.dictionaries(st.text(), JSON, max_size=3),
    report=st.none() | REPORTS,
    fit_seconds=st.none() | NUMBERS,
)
INFO = ProbeInfo(
    "parity",
    "ab12",
    "/h/Relu:0",
    Reduction(ReductionKind.MEAN, axis=1, mask_input="attention_mask"),
    ProbeKind.LOGISTIC,
    Task.CLASSES,
    (0, 1),
)


def with_text(text: str) -> bytes:
    """Returns an ONNX file whose metadata are this text."""
    model = onnx.load_from_string(FOREIGN)
    model.metadata_props.add(key=metadata.KEY, value=text)
    return model.SerializeToString()


def with_probe(**changes: Any) -> bytes:
    """Returns an ONNX file whose metadata have other fields than they should."""
    written = onnx.load_from_string(metadata.written(FOREIGN, INFO)).metadata_props[0].value
    content = json.loads(written)
    content["probe"] |= changes
    return with_text(json.dumps(content))


@given(INFOS)
def test_round_trip(info):
    """Whatever is known of a probe comes back as it was."""
    assert metadata.read(metadata.written(FOREIGN, info)) == info


def test_every_field():
    """The strategies above know every field, so that the round trip speaks for all of them."""
    assert {field.name for field in dataclasses.fields(ProbeReport)} == {
        *("scores", "train_score", "train_count", "test_count", "seed", "baseline", "input_score", "control_score"),
        *("control_types", "codelength_bits", "compression", "baseline_compression", "shuffled_score"),
        *("learning_curve", "confusion", "fold_count", "notes"),
    }


def test_written_twice():
    """What was said before is replaced; the graph and what others say stay as they are."""
    model = onnx.load_from_string(FOREIGN)
    model.metadata_props.add(key="author", value="me")
    once = metadata.written(model.SerializeToString(), INFO)
    other = dataclasses.replace(INFO, name="other")
    twice = onnx.load_from_string(metadata.written(once, other))
    assert [entry.key for entry in twice.metadata_props] == ["author", metadata.KEY]
    assert metadata.read(twice.SerializeToString()) == other
    assert twice.graph == model.graph


def test_strict_json():
    """The text is JSON that any reader knows, also where numbers are not finite or numpy's own."""
    report = ProbeReport(
        (Score(Metric.ACCURACY, np.float64(0.5), float("nan"), float("inf")),), np.float32(0.5), np.int64(3), 4, 0
    )
    info = dataclasses.replace(INFO, report=report, params={"hidden_layer_sizes": (5,), "C": float("-inf")})
    data = metadata.written(FOREIGN, info)
    text = onnx.load_from_string(data).metadata_props[0].value
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    read = metadata.read(data)
    assert read is not None
    assert read.report is not None
    assert np.isnan(read.report.scores[0].low)
    assert read.report.scores[0].high == float("inf")
    assert read.report.train_count == 3
    assert read.params == {"hidden_layer_sizes": [5], "C": "-inf"}


def test_stable():
    """What files say does not change its form: files that were written once are read for ever."""
    text = (
        '{"format":1,"probe":{"name":"parity","model_digest":"ab12","address":"/h/Relu:0","reduction":{"kind":"mean",'
        '"axis":1,"index":null,"k":null,"mask_input":"attention_mask","mask_value":null},"kind":"logistic",'
        '"task":"classes","classes":[0,1],"params":{},"report":null,"fit_seconds":null,"row_axis":0}}'
    )
    assert metadata.read(with_text(text)) == INFO
    assert onnx.load_from_string(metadata.written(FOREIGN, INFO)).metadata_props[0].value == text


def test_foreign():
    """An ONNX file of the user's own says nothing, has its outputs, and no arrays."""
    assert metadata.read(FOREIGN) is None
    assert metadata.outputs(FOREIGN) == ("y", "z")
    assert metadata.arrays(FOREIGN) == {}
    assert metadata.arrays(metadata.written(FOREIGN, INFO)) == {}


def test_unknown_fields():
    """Fields that are not known are passed over; those that may be missing have their defaults."""
    assert metadata.read(with_probe(mood="good")) == INFO
    content = {"name": "a", "model_digest": "b", "address": "c", "reduction": None, "kind": "svm", "task": "classes"}
    assert metadata.read(with_text(json.dumps({"format": 1, "probe": content}))) == ProbeInfo(
        "a", "b", "c", None, ProbeKind.SVM, Task.CLASSES
    )


@pytest.mark.parametrize(
    "constants",
    [
        "float[2, 3] coef = {1, 2, 3, 4, 5, 6}",
        "float[2, 3] coef = {1, 2, 3, 4, 5, 6}, float[3] intercept = {1, 2, 3}",
        "float[3] coef = {1, 2, 3}, float[1] intercept = {1}",
        "float[2, 3] coef = {1, 2, 3, 4, 5, 6}, float[2] intercept = {1, 2}, float[2] center = {1, 2}",
        'string[2, 3] coef = {"a", "b", "c", "d", "e", "f"}, float[2] intercept = {1, 2}',
        "float[2, 3] coef = {1, 2}, float[2] intercept = {1, 2}",
        'float[2, 3] coef = ["location": "/etc/hostname"], float[2] intercept = {1, 2}',
    ],
)
def test_arrays_of_other_origin(constants):
    """A file that says it is a linear probe, but was made elsewhere, has no arrays rather than wrong ones."""
    data = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 13]>
        other (float[N, 3] x) => (float[N, 3] y) <{constants}> {{ y = Relu(x) }}
    """).SerializeToString()
    assert metadata.arrays(metadata.written(data, INFO)) == {}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no ONNX file"),
        (b"certainly not", "no ONNX file"),
        (FOREIGN[:-5], "no ONNX file"),
        (with_text(""), "broken"),
        (with_text("{"), "broken"),
        (with_text("[" * 100_000), "broken"),
        (with_text("[]"), "it has no format"),
        (with_text("{}"), "it has no format"),
        (with_text('{"format": 1}'), "probe is no object"),
        (with_text('{"format": 1, "probe": {}}'), "missing"),
        (with_text('{"format": 2, "probe": {}}'), "update this server"),
        (with_text('{"format": ' + "9" * 5000 + "}"), "broken"),
        (with_probe(name=3), "probe.name is of the wrong type, int"),
        (with_probe(kind="magic"), "magic"),
        (with_probe(classes=[True]), r"probe.classes\[0\] is of the wrong type, bool"),
        (with_probe(classes=None), "probe.classes is no list"),
        (with_probe(params=[1]), "probe.params is of the wrong type, list"),
        (with_probe(fit_seconds="soon"), "soon"),
        (with_probe(fit_seconds=[]), "probe.fit_seconds is of the wrong type, list"),
        (with_probe(reduction={"kind": "mean", "axis": 1.5}), "probe.reduction.axis is of the wrong type, float"),
        (with_probe(report={"scores": []}), "missing"),
        (with_probe(report={"learning_curve": [[1]]}), "shorter"),
    ],
)
def test_broken(data, words):
    """What is broken or no ONNX gets a clear error, from everything that reads it."""
    with pytest.raises(ProbeInvalidError, match=words):
        metadata.read(data)
    with pytest.raises(ProbeInvalidError):
        metadata.arrays(data)


@given(st.binary(max_size=200) | st.integers(0, len(FOREIGN)).map(lambda end: FOREIGN[:end]), JSON)
def test_never_a_crash(data, content):
    """No bytes and no JSON are anything but a probe, no probe, or a clear error."""
    for one in (data, with_text(json.dumps({"format": 1, "probe": content})), with_text(json.dumps(content))):
        try:
            info = metadata.read(one)
        except ProbeInvalidError:
            continue
        assert info is None or isinstance(info, ProbeInfo)
