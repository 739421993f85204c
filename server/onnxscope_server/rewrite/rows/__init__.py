"""Whether a graph keeps rows apart: a proof, operator by operator, that each row's values come from that row alone.

Then callers' rows may be joined along the first axis of the inputs, run together, and taken apart again:

    run(concat(a, b)) = concat(run(a), run(b))      for whatever rows a and b have

What cannot be proved is refused: operators that are not known, that reduce, normalise or order along the rows, that
quantise by what all rows hold, and shapes that depend on what the rows hold.
"""

from onnxscope_server.rewrite.rows.facts import MixedRowsError
from onnxscope_server.rewrite.rows.proof import row_axes

__all__ = ["MixedRowsError", "row_axes"]
