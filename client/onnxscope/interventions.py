"""Interventions: writes to hook points. The contract promises them; this version has none."""
# ruff: noqa: ARG001  # the signatures are the contract's

from __future__ import annotations

from typing import Any, NoReturn

from onnxscope.errors import NotImplementedYet


def patch(at: Any, activation: Any) -> NoReturn:
    """Puts another run's activation at a hook point. Not built yet."""
    refuse("interventions.patch")


def ablate(at: Any, to: str = "zero") -> NoReturn:
    """Puts zero or the mean at a hook point. Not built yet."""
    refuse("interventions.ablate")


def steer(at: Any, vector: Any, scale: float = 1.0) -> NoReturn:
    """Adds a vector at a hook point. Not built yet."""
    refuse("interventions.steer")


def clamp(at: Any, low: float | None = None, high: float | None = None) -> NoReturn:
    """Bounds a hook point. Not built yet."""
    refuse("interventions.clamp")


def refuse(feature: str) -> NoReturn:
    """Says that a feature of the contract is not built yet.

    Raises:
        NotImplementedYet: always.
    """
    raise NotImplementedYet(
        f"{feature} is promised and not built yet: this version of onnxscope does not have it",
        {"feature": feature},
    )
