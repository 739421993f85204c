"""Out of bodies that iterate."""

from __future__ import annotations

from dataclasses import replace

from onnxscope_server.domain import Reading
from onnxscope_server.rewrite.crossing.crossing import Crossing, Leaf
from onnxscope_server.rewrite.crossing.types import array_type, in_bytes


class Iterating(Crossing):
    """Out of a body whose outputs are stacked."""

    iterations = 1

    def stacked(self, leaf: Leaf) -> Reading:
        """Brings a value out as one array, the iterations along its first axis."""
        type_ = array_type(leaf.type)
        if type_ is not None and type_.shape is not None:
            type_ = replace(type_, shape=(None, *type_.shape))
        flat = self.site.varying and type_ is not None and type_.shape == (None,)
        wide = in_bytes(type_)
        if type_ is None or wide is None:
            return self.site.note(Leaf(self.add_output(leaf.value), type_, flat))
        output = self.add_output(self.made("Cast", [leaf.value], to=int(wide)))
        return self.site.note(Leaf(self.made("Cast", [output], self.site.holder, to=int(type_.data_type)), type_, flat))
