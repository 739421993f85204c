"""What the contract promises and later versions bring."""

from __future__ import annotations

import inspect

import pytest

import onnxscope
from onnxscope.promised import PromisedModel

PROMISED = [(PromisedModel(), name) for name in dir(PromisedModel) if not name.startswith("_")]
OF_A_MODEL = """compare health statistics geometry similarity projection autoencoder filters
    feature_maps receptive_field where top_examples selectivity contributions lens memory attention invariance report"""


@pytest.mark.parametrize(("owner", "name"), PROMISED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_promise_is_refused_by_its_name(owner, name):
    """Any arguments that fit the signature are answered with NotImplementedYet."""
    method = getattr(owner, name)
    needed = [p for p in inspect.signature(method).parameters.values() if p.default is p.empty]
    keywords = {p.name: None for p in needed if p.kind is p.KEYWORD_ONLY}
    with pytest.raises(onnxscope.NotImplementedYet) as caught:
        method(*[None for p in needed if p.kind is not p.KEYWORD_ONLY], **keywords)
    assert caught.value.metadata == {"feature": name}
    assert method.__doc__.endswith("Not built yet.")


def test_all_of_the_contract_is_there():
    """Each method that DESIGN promises is a name of the model."""
    assert {name for _, name in PROMISED} == set(OF_A_MODEL.split())
    assert all(hasattr(onnxscope.Model, name) for name in ("fit_probe", "sweep", "probes", "probe", "delete_probe"))


def test_interventions_of_the_package():
    """The functions of the package refuse too."""
    calls = {
        "interventions.patch": lambda: onnxscope.patch("h", 1),
        "interventions.ablate": lambda: onnxscope.ablate("h"),
        "interventions.steer": lambda: onnxscope.steer("h", [1]),
        "interventions.clamp": lambda: onnxscope.clamp("h", 0, 1),
    }
    for feature, call in calls.items():
        with pytest.raises(onnxscope.NotImplementedYet) as caught:
            call()
        assert caught.value.metadata == {"feature": feature}
