"""onnxruntime's exceptions -> domain errors, without the C++ in their texts."""

from __future__ import annotations

import re

from onnxscope_server.errors import BoundRunFailedError, ModelInvalidError, OutOfMemoryError, RunFailedError

_PREFIX = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_SOURCE = re.compile(r"(?:/[^\s:()]+|\b[\w./\\-]+)\.(?:cc|cpp|cxx|hpp|h|cu):\d+ ?")
_AFTER_SIGNATURE = re.compile(r" ?(?:const\b|noexcept\b|\[with [^\]]*\])")
_STACK = re.compile(r"\n?\s*Stacktrace:.*", re.DOTALL)
_NO_MEMORY = re.compile(
    r"failed to allocate memory|bad_alloc|bad allocation|out of memory|available memory of"
    r"|storage size overflowed|cannot allocate memory",
    re.IGNORECASE,
)
_UNKNOWN_OPERATOR = re.compile(r"is not a registered function/op|No Op registered for|No opset import for domain")
_MAX_DETAIL = 2000


def clean(text: str) -> str:
    """Returns an error text of onnxruntime without status prefixes, C++ signatures, source paths and stacks."""
    text = _PREFIX.sub("", _STACK.sub("", text))
    while (source := _SOURCE.search(text)) is not None:
        text = text[: source.start()] + text[_end_of_signature(text, source.end()) :].lstrip()
    text = " ".join(text.split())
    return text if len(text) <= _MAX_DETAIL else text[:_MAX_DETAIL] + " ..."


def _end_of_signature(text: str, start: int) -> int:
    """Returns where the C++ signature that begins at `start` ends; `start` where none does."""
    opening = text.find("(", start)
    if opening < 0 or "\n" in text[start:opening] or "::" not in text[start:opening]:
        return start
    depth = 0
    for at in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            end = at + 1
            while (suffix := _AFTER_SIGNATURE.match(text, end)) is not None:
                end = suffix.end()
            return end
    return start


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an exception means that there was not enough memory."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def load_failure(error: BaseException) -> ModelInvalidError | OutOfMemoryError:
    """Returns the domain error of a session that could not be made."""
    detail = clean(str(error))
    if is_out_of_memory(error):
        return OutOfMemoryError(
            f"the model needs more memory than there is: {detail}. Use a smaller model or a larger machine",
            detail=detail,
        )
    if _UNKNOWN_OPERATOR.search(detail):
        return ModelInvalidError(
            f"onnxruntime refuses the model: {detail}. Check the operator's name and the opset; a custom operator "
            "comes in a library that the server's --custom-ops (custom_ops= when embedded) has to name",
            detail=detail,
        )
    return ModelInvalidError(
        f"onnxruntime refuses the model: {detail}. Check it with onnx.checker, and that the server's"
        " onnxruntime has its operators and opsets",
        detail=detail,
    )


def run_failure(error: BaseException, *, bound: bool = False) -> RunFailedError | OutOfMemoryError:
    """Returns the domain error of a run that failed; `bound` says whether it wrote into memory of the caller's."""
    detail = clean(str(error))
    if is_out_of_memory(error):
        return OutOfMemoryError(
            f"the run needs more memory than there is: {detail}. Send a smaller batch, or capture fewer"
            " hook points or reductions of them",
            detail=detail,
        )
    kind = BoundRunFailedError if bound else RunFailedError
    return kind(
        f"onnxruntime failed on these inputs: {detail}. Check that the inputs' sizes and contents fit the"
        " model and each other",
        detail=detail,
    )
