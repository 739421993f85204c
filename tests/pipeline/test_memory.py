"""What a capture runs in groups of, and when it is refused."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import parser

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import Capture, DataType, OutputMode, Plan, TensorType
from onnxscope_server.errors import LimitExceededError
from onnxscope_server.pipeline.memory import Budget
from onnxscope_server.pipeline.parts import joined
from onnxscope_server.plan.element_types import byte_count
from onnxscope_server.result_domain import Fidelity, Result

# columns of float32 that each value has
WIDTHS = {"a": 1, "b": 2, "c": 3, "d": 5, "e": 8, "f": 13}
MODEL = CatalogModel.from_bytes(
    parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]>
        widths (float[row, 1] x) => (float[row, 13] f) {
            a = Neg (x)  b = Concat <axis = 1> (a, x)  c = Concat <axis = 1> (b, a)
            d = Concat <axis = 1> (b, c)  e = Concat <axis = 1> (c, d)  f = Concat <axis = 1> (d, e) }"""
    ).SerializeToString()
)


def plan_of(addresses: list[str], outputs: OutputMode = OutputMode.NONE) -> Plan:
    """A plan that captures values of the model as they are."""
    type_ = TensorType(DataType.FLOAT32)
    return Plan(MODEL.digest, tuple(Capture(one, None, type_) for one in addresses), outputs, exact=True)


def groups(plan: Plan, limit: int, rows: int) -> tuple[Plan, ...]:
    """What a budget makes of a plan; no session is needed where all sizes are known."""
    unused: Any = None
    budget = Budget(limit, unused, unused)
    return asyncio.run(budget.groups(MODEL, plan, {"x": np.zeros((rows, 1), np.float32)}))


@given(
    addresses=st.lists(st.sampled_from(sorted(WIDTHS)), unique=True),
    rows=st.integers(1, 3),
    room=st.integers(1, 40),
    outputs=st.sampled_from(OutputMode),
)
def test_groups_take_every_address_once_in_order_and_fit(addresses, rows, room, outputs):
    """No group is over the budget, none could take the next value too, and a value that fits none is refused."""
    sizes = {address: WIDTHS[address] * rows * 4 for address in addresses}
    limit = room * rows * 4
    plan = plan_of(addresses, outputs)
    if max(sizes.values(), default=0) > limit:
        with pytest.raises(LimitExceededError):
            groups(plan, limit, rows)
        return
    found = groups(plan, limit, rows)
    assert [capture for group in found for capture in group.captures] == list(plan.captures)
    taken = [[sizes[capture.address] for capture in group.captures] for group in found]
    assert all(sum(group) <= limit for group in taken)
    assert all(sum(group) + following[0] > limit for group, following in itertools.pairwise(taken))
    assert [group.outputs for group in found] == [outputs] + [OutputMode.NONE] * (len(found) - 1)


def test_what_fits_stays_the_plan_that_it_was():
    """Its session is there already."""
    plan = plan_of(["a", "c"])
    assert groups(plan, 16, 1) == (plan,)
    assert groups(plan, 16, 1)[0] is plan
    assert len(groups(plan, 15, 1)) == 2


def test_a_refusal_holds_the_numbers():
    """The budget, what is too large and by how much, the total, and the setting."""
    mib = 1 << 20
    with pytest.raises(LimitExceededError) as refused:
        groups(plan_of(["a", "b", "c"]), 3 * mib, mib // 2)
    assert str(refused.value).startswith(
        "The memory budget is 3.0 MiB, and b 4.0 MiB, c 6.0 MiB would not fit it (all that is asked: 12.0 MiB)."
    )
    assert refused.value.metadata == {"setting": "memory_budget", "limit": str(3 * mib), "got": str(6 * mib)}


def test_a_refusal_names_three_of_many():
    """However many are too large, the text stays short."""
    with pytest.raises(LimitExceededError, match=r"a .*, b .*, c [0-9.]+ KiB, \.\.\. would not fit"):
        groups(plan_of(list("abcdef")), 1, 1)


@pytest.mark.parametrize(
    ("data_type", "count", "size"),
    [
        (DataType.INT4, 3, 2),
        (DataType.INT2, 5, 2),
        (DataType.FLOAT4E2M1, 4, 2),
        (DataType.BOOL, 3, 3),
        (DataType.BFLOAT16, 3, 6),
        (DataType.COMPLEX128, 2, 32),
        (DataType.FLOAT32, 0, 0),
        (DataType.STRING, 3, None),
    ],
)
def test_sizes_are_those_on_the_wire(data_type, count, size):
    """Types of less than a byte share bytes; of text nothing is known."""
    assert byte_count(data_type, count) == size


def test_results_of_groups_make_one():
    """Values of all groups in order, outputs and fidelity of the first, seconds of a stage added up."""
    fidelity = Fidelity(fusion_blocked=True)
    first = Result({"a": 1}, {"y": 2}, {"s": 3}, {"session": 1.0, "run": 2.0}, fidelity)
    second = Result({"b": 4}, {}, {"s": 3, "z": 5}, {"session": 10.0, "run": 20.0})
    third = Result({"c": 6}, {}, {}, {"run": 200.0})
    whole = joined([first, second, third])
    assert list(whole.activations.items()) == [("a", 1), ("b", 4), ("c", 6)]
    assert whole.outputs == {"y": 2}
    assert whole.scalings == {"s": 3, "z": 5}
    assert whole.timings == {"session": 11.0, "run": 222.0}
    assert whole.fidelity is fidelity
    assert joined([first]) is first
