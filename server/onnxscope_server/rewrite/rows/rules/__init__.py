"""What each operator does to rows, by domain and operator; what is not listed is taken to mix them."""

from collections.abc import Mapping

from onnxscope_server.rewrite.rows.node import Rule
from onnxscope_server.rewrite.rows.rules import (
    along_axes,
    attention,
    contracting,
    elementwise,
    layout,
    learned,
    microsoft,
    picking,
)

RULES: Mapping[tuple[str, str], Rule] = {
    **elementwise.RULES,
    **layout.RULES,
    **picking.RULES,
    **along_axes.RULES,
    **contracting.RULES,
    **attention.RULES,
    **learned.RULES,
    **microsoft.RULES,
}
