"""What the nodes of a graph are called in addresses."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import onnx


def labels(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """Names every node of one graph or function, each differently.

    Args:
        nodes: all nodes of the graph, in the order of the file.

    Returns:
        A name for each: its own, or `TYPE_INDEX` where it has none or another node has the same; INDEX counts the nodes
        of that type from 0, and goes on to the next number that is free.
    """
    counts = Counter(node.name for node in nodes)
    taken = {name for name, count in counts.items() if name and count == 1}
    indices: Counter[str] = Counter()
    found = []
    for node in nodes:
        index = indices[node.op_type]
        indices[node.op_type] += 1
        if counts[node.name] == 1 and node.name:
            found.append(node.name)
            continue
        label = next(
            candidate
            for candidate in (f"{node.op_type}_{number}" for number in itertools.count(index))
            if candidate not in taken
        )
        taken.add(label)
        found.append(label)
    return found
