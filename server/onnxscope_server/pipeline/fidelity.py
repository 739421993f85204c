"""What watching does to a model's outputs: decided once a plan, measured once a run where it matters."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np

from onnxscope_server.domain import Array, Value
from onnxscope_server.result_domain import Fidelity
from onnxscope_server.rewrite.fingerprint import Cone, changed
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.sessions import Chain


class Verdicts:
    """Tells of a rewritten graph whether its outputs are those of the unmodified one, bit for bit.

    Both optimised graphs are compared, each output's ancestors with each other: equal ancestors compute
    equal bits, and nothing else is taken for a proof. Verdicts live as long as their chain.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._cones: WeakKeyDictionary[Chain, Mapping[str, Cone]] = WeakKeyDictionary()
        self._verdicts: WeakKeyDictionary[Chain, Fidelity] = WeakKeyDictionary()
        self._lock = asyncio.Lock()

    async def of(self, plain: Chain, watched: Chain) -> Fidelity:
        """Returns the verdict on the chain of a rewritten graph."""
        if watched not in self._verdicts:
            async with self._lock:
                if watched not in self._verdicts:
                    ours, theirs = await self._cones_of(watched), await self._cones_of(plain)
                    outputs = watched.outputs
                    same = all(ours[name].digest == theirs[name].digest for name in outputs)
                    operators = () if same else changed(theirs, ours, outputs)
                    self._verdicts[watched] = Fidelity(not same, tuple(operators))
        return self._verdicts[watched]

    async def _cones_of(self, chain: Chain) -> Mapping[str, Cone]:
        found = self._cones.get(chain)
        if found is None:
            found = self._cones[chain] = await self._runner.call(chain.cones)
        return found


def max_difference(fidelity: Fidelity, plain: Mapping[str, Value], watched: Mapping[str, Value]) -> Fidelity:
    """Returns the verdict with the largest absolute difference of the floating-point outputs."""
    differences = [
        _difference(np.asarray(value), np.asarray(watched[name]))
        for name, value in plain.items()
        if isinstance(value, np.ndarray) and name in watched
    ]
    return replace(fidelity, max_output_difference=max(differences, default=0.0))


def _difference(one: Array, other: Array) -> float:
    if one.shape != other.shape:
        return float("inf")
    if one.dtype.kind in "OUSb" or one.size == 0:
        return 0.0 if np.array_equal(one, other) else float("inf")
    wide = np.complex128 if one.dtype.kind == "c" else np.float64
    left, right = np.atleast_1d(one.astype(wide)), np.atleast_1d(other.astype(wide))
    with np.errstate(invalid="ignore"):
        gaps = np.abs(left - right)
    gaps[(left == right) | (np.isnan(left) & np.isnan(right))] = 0.0
    return float(np.nan_to_num(gaps, nan=np.inf).max())
