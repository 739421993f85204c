"""The form of a definition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import onnx

from onnxscope_server.domain import ValueType

PartType: TypeAlias = Callable[[ValueType | None], ValueType | None]


@dataclass(frozen=True, slots=True)
class Definition:
    """What one node is made of.

    Attributes:
        inputs: what the nodes call the values that the node reads, by place.
        nodes: in an order in which they can be computed.
        parts: the values that are hook points, by the name that they have in addresses.
        part_type: the type of every part from that of the first input, where inference would not find it.
        is_one_operator: the parts belong to the operator itself, and not to the smaller ones that compute them here.
    """

    inputs: tuple[str, ...]
    nodes: tuple[onnx.NodeProto, ...]
    parts: Mapping[str, str]
    part_type: PartType | None = None
    is_one_operator: bool = False
