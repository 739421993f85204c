"""`--reduce` as text."""

import pytest

from onnxscope.cli.console import CommandError
from onnxscope.cli.reductions import parse
from onnxscope.errors import ReductionInvalidError


def test_no_text_is_no_reduction():
    """None is what `reduce=` has by default."""
    assert parse([]) is None


def test_a_reduction_alone_is_for_everything_that_is_watched():
    """No selector, no mapping."""
    assert parse(["mean"]).kind == "mean"


def test_a_selector_may_hold_the_sign():
    """The last one parts."""
    rules = parse(["re:a=b.*=spatial_mean"])
    assert {selector: rule.kind for selector, rule in rules.items()} == {"re:a=b.*": "spatial_mean"}


def test_the_general_rule_comes_first_so_that_the_special_one_wins():
    """Whatever the order in which they were given."""
    rules = parse(["op:Conv=max", "mean"])
    assert list(rules) == ["*", "op:Conv"]


def test_parameters_stand_after_a_colon():
    """index, topk, and masks that are inputs."""
    assert (parse(["index:1,-2"]).axis, parse(["index:1,-2"]).index) == (1, -2)
    assert parse(["topk:5"]).k == 5
    assert parse(["last:attention_mask"]).mask == "attention_mask"


@pytest.mark.parametrize("text", ["index:1", "topk:many", "norm:2"])
def test_parameters_that_mean_nothing_are_refused(text):
    """With the text itself."""
    with pytest.raises(CommandError, match=text):
        parse([text])


@pytest.mark.parametrize("text", ["median", "topk", "x=", "topk:0"])
def test_reductions_that_do_not_exist_are_refused(text):
    """By the client, as in Python."""
    with pytest.raises(ReductionInvalidError):
        parse([text])


def test_two_reductions_for_one_selector_are_refused():
    """One of them would be ignored."""
    with pytest.raises(CommandError, match="twice for op:Relu"):
        parse(["op:Relu=mean", "op:Relu=max"])
