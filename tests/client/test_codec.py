"""Arrays to messages and back, for every type."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.messages import messages

from onnxscope.v1 import codec
from onnxscope.v1 import tensor_pb2 as pb
from onnxscope.v1.assemble import Assembler

ROLE = pb.VALUE_ROLE_INPUT
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_BITS = {
    pb.DATA_TYPE_UINT4: 4,
    pb.DATA_TYPE_INT4: 4,
    pb.DATA_TYPE_FLOAT4E2M1: 4,
    pb.DATA_TYPE_UINT2: 2,
    pb.DATA_TYPE_INT2: 2,
}


def there_and_back(value):
    """Sends a value through bytes, as the wire does."""
    assembler = Assembler()
    done = None
    for part in messages(ROLE, "x", value):
        assert done is None
        done = assembler.feed(pb.ValuePart.FromString(part.SerializeToString()))
    assert (done.role, done.name) == (ROLE, "x")
    assert assembler.pending is None
    return done.value


def same_bits(got, expected):
    """Claims that two arrays are the same in dtype, shape and every bit."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert np.ascontiguousarray(got).tobytes() == np.ascontiguousarray(expected).tobytes()


@st.composite
def arrays(draw, data_type):
    """Arrays of any shape whose elements have any bits that the type has."""
    shape = draw(SHAPES)
    dtype = codec.DTYPES[data_type]
    count = int(np.prod(shape))
    raw = np.frombuffer(draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize)), np.uint8)
    if data_type == pb.DATA_TYPE_BOOL:
        raw = raw & 1
    if (bits := _BITS.get(data_type)) is not None:
        raw = raw & ((1 << bits) - 1)
        if data_type in (pb.DATA_TYPE_INT4, pb.DATA_TYPE_INT2):
            sign = 1 << (bits - 1)
            return ((raw.astype(np.int8) ^ sign) - sign).astype(dtype).reshape(shape)
        if data_type != pb.DATA_TYPE_FLOAT4E2M1:
            return raw.astype(dtype).reshape(shape)
    return raw.view(dtype).reshape(shape)


@pytest.mark.parametrize("data_type", [number for number in codec.DTYPES if number != pb.DATA_TYPE_STRING])
def test_every_type_survives_bit_for_bit(data_type):
    """All types, all shapes, all bit patterns: NaNs, infinities, negative zeros."""

    @QUICK
    @given(arrays(data_type))
    def check(array):
        same_bits(there_and_back(array), array)
        assert codec.data_type_of(array) == data_type

    check()


@QUICK
@given(hnp.arrays(object, SHAPES, elements=st.text(st.characters(exclude_categories=["Cs"]), max_size=5)))
def test_strings_survive(array):
    """Any text that UTF-8 has, empty ones and NULs too."""
    got = there_and_back(array)
    assert got.dtype == object
    assert got.shape == array.shape
    assert got.tolist() == array.tolist()


@QUICK
@given(
    st.recursive(
        st.none() | hnp.arrays(np.float32, SHAPES) | hnp.arrays(np.int64, SHAPES),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=6,
    )
)
def test_sequences_survive(value):
    """Lists of lists of arrays and absent values."""

    def check(got, expected):
        if isinstance(expected, list):
            assert len(got) == len(expected)
            for one, other in zip(got, expected, strict=True):
                check(one, other)
        elif expected is None:
            assert got is None
        else:
            same_bits(got, expected)

    check(there_and_back(value), value)


@QUICK
@given(
    st.dictionaries(st.integers(-(2**63), 2**63 - 1), st.floats(width=32, allow_nan=False), max_size=5)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-5, 5), max_size=5)
)
def test_maps_survive(value):
    """Integer and text keys, in order."""
    assert list(there_and_back(value).items()) == list(value.items())


@pytest.mark.parametrize("size", [codec.CHUNK_BYTES - 1, codec.CHUNK_BYTES, codec.CHUNK_BYTES + 1, 3_500_000])
def test_large_values_go_in_chunks(size):
    """No part is above the chunk size, and offsets have no gaps."""
    array = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    same_bits(there_and_back(array), array)
    parts = messages(ROLE, "x", array)
    offsets, at = [], len(parts[0].start.data)
    for part in parts[1:]:
        offsets.append(part.chunk.offset == at)
        at += len(part.chunk.data)
    assert all(offsets)
    assert at == size
    assert max(len(part.chunk.data) for part in parts) <= codec.CHUNK_BYTES


def test_layouts_of_memory_do_not_matter():
    """Strided, transposed and big-endian arrays arrive as what they mean."""
    array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    for view in (array.transpose(2, 0, 1), array[:, ::2, ::-1], array.astype(">i4")):
        np.testing.assert_array_equal(there_and_back(view), view)


def test_a_received_array_is_the_callers_own():
    """Writable, contiguous, and not a view of a message."""
    got = there_and_back(np.arange(3))
    got[0] = 7
    assert got.flags.owndata or got.base is None or got.base.flags.owndata


@QUICK
@given(st.binary(max_size=200))
def test_garbage_is_a_codec_error_or_a_value(raw):
    """Bytes that parse as a part never raise anything else."""
    try:
        part = pb.ValuePart.FromString(raw)
    except Exception:  # noqa: BLE001  # protobuf's own error: there is no part
        return
    with suppress(codec.CodecError):
        Assembler(limit=1 << 20).feed(part)


@QUICK
@given(
    st.builds(
        pb.ArrayLayout,
        data_type=st.sampled_from(sorted(codec.DTYPES)),
        shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 4), max_size=70),
        byte_count=st.integers(0, 2**64 - 1) | st.integers(0, 64),
    ),
    st.binary(max_size=64),
)
def test_hostile_layouts_are_codec_errors(layout, data):
    """Sizes that overflow, ranks that numpy lacks, bytes that are not there."""
    start = pb.ValueStart(role=ROLE, name="x", layout=pb.ValueLayout(array=layout), data=data)
    with suppress(codec.CodecError):
        Assembler(limit=1 << 20).feed(pb.ValuePart(start=start))


@pytest.mark.parametrize("data_type", [pb.DATA_TYPE_FLOAT32, pb.DATA_TYPE_STRING, pb.DATA_TYPE_INT4])
def test_an_empty_array_with_endless_axes_is_refused(data_type):
    """No bytes, and a shape that numpy cannot hold."""
    layout = pb.ValueLayout(array=pb.ArrayLayout(data_type=data_type, shape=[0, 2**62, 2**62]))
    with pytest.raises(codec.CodecError, match="impossible"):
        Assembler().feed(pb.ValuePart(start=pb.ValueStart(role=ROLE, name="x", layout=layout)))


def test_a_limit_is_kept_before_memory_is_taken():
    """An announced terabyte is refused by its announcement."""
    layout = pb.ValueLayout(array=pb.ArrayLayout(data_type=pb.DATA_TYPE_UINT8, shape=[1 << 40], byte_count=1 << 40))
    with pytest.raises(codec.TooLargeError):
        Assembler(limit=1 << 20).feed(pb.ValuePart(start=pb.ValueStart(role=ROLE, name="x", layout=layout)))
