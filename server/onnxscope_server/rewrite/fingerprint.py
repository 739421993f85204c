"""Fingerprints of how outputs are computed: two optimised graphs with the same one give the same bits.

A fingerprint covers an output's cone: the nodes that it is computed from, with operators, attributes, bodies and what
these take from outside, weights by content, and the wiring by structure. Names of values and nodes count for nothing,
except for those of the inputs; nor does an Identity.
"""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import onnx

from onnxscope_server.rewrite.wiring import Operator, Wiring

_NONE: Mapping[str, Cone] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Cone:
    """What an output is computed from.

    Attributes:
        digest: equal where the same operators compute the output from the same inputs and weights.
        nodes: each node, once, in any number of segments: operators in it, by name and by a digest of all that one
            says of itself, and how many of them.
    """

    digest: str
    nodes: Mapping[Hashable, Counter[Operator]]

    @property
    def operators(self) -> Counter[Operator]:
        """Number of nodes, by operator and by a digest of all that one node says of itself."""
        counts: Counter[Operator] = Counter()
        for operators in self.nodes.values():
            counts.update(operators)
        return counts


def cones_of_file(
    path: Path, outputs: Collection[str] | None = None, given: Mapping[str, Cone] = _NONE
) -> Mapping[str, Cone]:
    """Returns the cones of outputs of an optimised graph that onnxruntime wrote.

    Args:
        path: the file (`SessionOptions.optimized_model_filepath`), in a folder of its own.
        outputs: which of them; None for all.
        given: cones of all that the segments before it make.

    Returns:
        Cones by output name.
    """
    return cones(path.read_bytes(), path.parent, outputs, given)


def cones(
    optimised: bytes,
    folder: Path | None = None,
    outputs: Collection[str] | None = None,
    given: Mapping[str, Cone] = _NONE,
) -> Mapping[str, Cone]:
    """Returns the cones of outputs of an optimised graph.

    Each walks the graph once more: of a graph with a thousand outputs ask for those that will be compared.

    onnxruntime writes weights that it did not touch as references to the model's own file; those are known by file,
    place and length, and are not read. Only what it wrote anew beside the graph
    (`session.optimized_model_external_initializers_file_name`) is.

    Args:
        optimised: a serialised ModelProto.
        folder: where onnxruntime wrote it; None where it wrote no weights beside it.
        outputs: which of them; None for all.
        given: cones of all that the segments before it make.

    Returns:
        Cones by output name.
    """
    model = onnx.ModelProto.FromString(optimised)
    wiring = Wiring.of_model(model, folder, {name: bytes.fromhex(cone.digest) for name, cone in given.items()})
    # nodes of other segments have the same numbers, and with every segment more is given
    level = len(given)
    found = {}
    for item in model.graph.output:
        if outputs is None or item.name in outputs:
            nodes, read = wiring.nodes_below(item.name)
            before = (given[name].nodes for name in read if name in given)
            own: dict[Hashable, Counter[Operator]] = {(level, at): counts for at, counts in nodes.items()}
            found[item.name] = Cone(wiring.digest_of(item.name).hex(), functools.reduce(operator.or_, before, own))
    return found


def changed(plain: Mapping[str, Cone], instrumented: Mapping[str, Cone], outputs: Iterable[str]) -> tuple[str, ...]:
    """Returns the operators of the unmodified model that watching broke up or rewired.

    Args:
        plain: cones of the unmodified model.
        instrumented: cones of the rewritten graph.
        outputs: names of the outputs to compare.

    Returns:
        Operators, `domain:Type` outside of ONNX's own, sorted; empty exactly where all cones are equal. Where the
        unmodified model has no node that the rewritten graph lacks, the rewritten graph's additional ones.
    """
    found: set[str] = set()
    for output in dict.fromkeys(outputs):
        before, after = plain[output], instrumented[output]
        if before.digest == after.digest:
            continue
        have, now = before.operators, after.operators
        # equal nodes that are wired differently: all of them may be meant
        missing = (have - now) or (now - have) or have or now
        found.update(name for name, _ in missing)
        if not missing:
            found.add("Identity")
    return tuple(sorted(found))
