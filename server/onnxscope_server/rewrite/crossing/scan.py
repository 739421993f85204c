"""Out of a Scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from onnxscope_server.domain import DataType, OptionalType, Reading, SequenceType, TensorType
from onnxscope_server.rewrite.crossing.crossing import Leaf, Site, stuck
from onnxscope_server.rewrite.crossing.iterating import Iterating
from onnxscope_server.rewrite.crossing.loop import LoopCrossing

# before, a Scan had a batch axis in front of the iterations'
_WITHOUT_BATCH = 9


class ScanCrossing(Iterating):
    """Out of a Scan: one more scan output; all iterations' values must have one shape.

    Before:  Scan(s, xs) {s, x -> s = Add(s, x)  n = Neg(x)}      outputs: s
    After:   Scan(s, xs) {s, x -> s = Add(s, x)  n = Neg(x)}      outputs: s, n::out

    Where shapes may differ, a Loop beside it computes the same again.
    """

    def __init__(self, site: Site, node: ir.Node | None = None) -> None:
        super().__init__(site, node)
        self.iterations = 1 if site.opset >= _WITHOUT_BATCH else 2

    def bring_out(self, leaves: Sequence[Leaf]) -> list[Reading]:
        """Adds scan outputs, stacked forwards along a first axis."""
        if self.site.varying:
            return LoopCrossing(self.site, self._as_loop(leaves)).bring_out(leaves)
        for leaf in leaves:
            if isinstance(leaf.type, SequenceType | OptionalType):
                raise stuck(leaf.value, "it is no array, and only arrays come out of a Scan")
        for name in ("scan_output_axes", "scan_output_directions"):
            attribute = self.node.attributes.get(name)
            if attribute is not None:
                self.node.attributes[name] = ir.AttrInt64s(name, [*attribute.as_ints(), *[0] * len(leaves)])
        return [self.stacked(leaf) for leaf in leaves]

    def _as_loop(self, leaves: Sequence[Leaf]) -> ir.Node:
        if self.site.opset < _WITHOUT_BATCH:
            raise stuck(leaves[0].value, "shapes differ between the iterations of a Scan that is too old for that")
        count = self.node.attributes["num_scan_inputs"].as_int()
        states = len(self.node.inputs) - count
        types = [self.site.type_of(value.name or "") for value in self.node.inputs[states:] if value is not None]
        if any(isinstance(type_, TensorType) and type_.data_type is DataType.STRING for type_ in types):
            # onnxruntime's Gather loses all but one of an entry's texts
            raise stuck(leaves[0].value, "shapes differ between the iterations of a Scan over texts")
        axes, backwards = self._integers("scan_input_axes", count), self._integers("scan_input_directions", count)
        sizes = self.before("Shape", [self.node.inputs[states]])
        trips = self.before("Gather", [sizes, self.number(axes[0])], axis=0)

        def slices(index: ir.Value) -> Iterator[list[ir.Node]]:
            for sequence, axis, reverse in zip(self.node.inputs[states:], axes, backwards, strict=True):
                if not reverse:
                    yield [self.new("Gather", [sequence, index], axis=axis)]
                    continue
                from_behind = self.new("Sub", [self.before("Sub", [trips, self.number(1)]), index])
                yield [from_behind, self.new("Gather", [sequence, from_behind.outputs[0]], axis=axis)]

        return self.beside(trips, states, slices)

    def _integers(self, attribute: str, count: int) -> Sequence[int]:
        given = self.node.attributes.get(attribute)
        return given.as_ints() if given is not None else [0] * count
