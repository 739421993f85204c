"""How values come out of nodes: out of functions that they call, branches, and bodies that iterate."""

from __future__ import annotations

from onnxscope_server.rewrite.crossing.branch import BranchCrossing
from onnxscope_server.rewrite.crossing.call import CallCrossing
from onnxscope_server.rewrite.crossing.crossing import Crossing, Leaf, Site
from onnxscope_server.rewrite.crossing.loop import LoopCrossing
from onnxscope_server.rewrite.crossing.scan import ScanCrossing
from onnxscope_server.rewrite.crossing.sequence_map import MapCrossing

__all__ = ["CROSSINGS", "Crossing", "Leaf", "Site"]

CROSSINGS: dict[str, type[Crossing]] = {
    "": CallCrossing,
    "If": BranchCrossing,
    "Loop": LoopCrossing,
    "Scan": ScanCrossing,
    "SequenceMap": MapCrossing,
}
