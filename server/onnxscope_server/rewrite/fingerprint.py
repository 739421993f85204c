"""Fingerprints of how outputs are computed: two optimised graphs with the same one give the same bits.

A fingerprint covers an output's cone: the nodes that it is computed from, with operators, attributes, bodies and what
these take from outside, weights by content, and the wiring by structure. Names of values and nodes count for nothing,
except for those of the inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from onnxscope_server.rewrite.wiring import Wiring


@dataclass(frozen=True, slots=True)
class Cone:
    """What an output is computed from.

    Attributes:
        digest: equal where the same operators compute the output from the same inputs and weights.
        operators: number of nodes, by operator and by a digest of all that one node says of itself.
    """

    digest: str
    operators: Mapping[tuple[str, str], int]


def cones_of_file(path: Path, outputs: Collection[str] | None = None) -> Mapping[str, Cone]:
    """Returns the cones of outputs of an optimised graph that onnxruntime wrote.

    Args:
        path: the file (`SessionOptions.optimized_model_filepath`), in a folder of its own.
        outputs: which of them; None for all.

    Returns:
        Cones by output name.
    """
    return cones(path.read_bytes(), path.parent, outputs)


def cones(optimised: bytes, folder: Path | None = None, outputs: Collection[str] | None = None) -> Mapping[str, Cone]:
    """Returns the cones of outputs of an optimised graph.

    Each walks the graph once more: of a graph with a thousand outputs ask for those that will be compared.

    onnxruntime writes weights that it did not touch as references to the model's own file; those are known by file,
    place and length, and are not read. Only what it wrote anew beside the graph
    (`session.optimized_model_external_initializers_file_name`) is.

    Args:
        optimised: a serialised ModelProto.
        folder: where onnxruntime wrote it; None where it wrote no weights beside it.
        outputs: which of them; None for all.

    Returns:
        Cones by output name.
    """
    model = onnx.ModelProto.FromString(optimised)
    wiring = Wiring.of_model(model, folder)
    return {
        item.name: Cone(wiring.digest_of(item.name).hex(), wiring.operators_below(item.name))
        for item in model.graph.output
        if outputs is None or item.name in outputs
    }


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
    for name in dict.fromkeys(outputs):
        before, after = plain[name], instrumented[name]
        if before.digest == after.digest:
            continue
        have, now = Counter(before.operators), Counter(after.operators)
        # equal nodes that are wired differently: all of them may be meant
        missing = (have - now) or (now - have) or have or now
        found.update(operator for operator, _ in missing)
        if not missing:
            found.add("Identity")
    return tuple(sorted(found))
