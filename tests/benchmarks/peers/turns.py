"""What a peer and the measuring process say to each other: lines.

A peer prints `ready`, then waits for a line, has its turn, and prints the seconds that it took and the bytes of the
arrays that it had in the end. It ends with its standard input. This module runs in the peers' environment.
"""

import contextlib
import os
import sys
import time

import numpy as np
import onnx

INPUT = "x"
# what libraries print goes elsewhere
_SAID = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


def batch(rows):
    """Returns the input of the CNN: float32 [row, 3, 32, 32]."""
    return np.random.default_rng(0).random((rows, 3, 32, 32), np.float32)


def exposed(path):
    """Returns the model in a file with every value that its nodes compute as an output."""
    model = onnx.load(path)
    outputs = {item.name for item in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name not in outputs]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return model


def say(line):
    """Prints a line for who started this process."""
    print(line, file=_SAID)


def take(work):
    """Takes turns until nobody asks any more.

    Args:
        work: has one turn; returns the arrays that it got, each once.
    """
    with contextlib.suppress(BrokenPipeError):
        say("ready")
        for _ in sys.stdin:
            start = time.perf_counter()
            arrays = work()
            seconds = time.perf_counter() - start
            say(f"{seconds} {sum(array.nbytes for array in arrays)}")
            del arrays
