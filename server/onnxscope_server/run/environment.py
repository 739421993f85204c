"""onnxruntime, imported here and nowhere else: silent, and with its telemetry off."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from onnxscope_server.errors import CustomOpsInvalidError, ProviderUnavailableError

# telemetry begins with the import: it writes an id and a database under the home folder
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
_application_has_it = "onnxruntime" in sys.modules

import onnxruntime as ort  # noqa: E402  the environment comes first
from onnxruntime.capi import onnxruntime_pybind11_state as native  # noqa: E402

__all__ = [
    "SILENT",
    "check_custom_ops",
    "check_providers",
    "native",
    "ort",
    "share_threads",
    "shared_arena",
    "threads_are_shared",
]

# errors arrive as exceptions; what onnxruntime writes on stderr beside them nobody asked for
SILENT = 4
if _application_has_it:
    ort.disable_telemetry_events()
else:
    ort.set_default_logger_severity(SILENT)


_threads_are_shared = False


def share_threads(count: int) -> None:
    """Has all sessions of this process compute with the same threads, instead of some of their own for each.

    Sessions of one plan then don't keep each other's threads busy waiting. It is for a process that has no other use
    for onnxruntime: sessions that want threads of their own can't be made afterwards; those made before keep theirs.

    Args:
        count: threads that compute; 0 for one a core.
    """
    global _threads_are_shared  # noqa: PLW0603  onnxruntime's own setting is the process's
    native.set_global_thread_pool_sizes(count, 1)
    _threads_are_shared = True


def threads_are_shared() -> bool:
    """Tells whether sessions of this process share their threads."""
    return _threads_are_shared


@functools.cache
def shared_arena() -> Mapping[str, str]:
    """Returns the session configuration with which sessions take memory for their runs from one arena.

    An arena keeps what it once took: each session would keep as much as its largest run needed.
    """
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({}))
    return MappingProxyType({"session.use_env_allocators": "1"})


def check_custom_ops(libraries: Sequence[Path]) -> None:
    """Checks that onnxruntime can use libraries of custom operators.

    Raises:
        CustomOpsInvalidError: it can't use one of them.
    """
    for library in libraries:
        try:
            ort.SessionOptions().register_custom_ops_library(str(library))
        except Exception as error:
            raise CustomOpsInvalidError(
                f"onnxruntime can't use {library} as a library of custom operators: {error}. "
                "Name one that is built for this machine and for this version of onnxruntime",
                library=str(library),
            ) from error


def check_providers(names: Sequence[str]) -> None:
    """Checks that this build of onnxruntime has these execution providers.

    Args:
        names: onnxruntime's names, such as `CPUExecutionProvider`.

    Raises:
        ProviderUnavailableError: one of them is missing.
    """
    available = ort.get_available_providers()
    for name in names:
        if name not in available:
            listed = ", ".join(available)
            raise ProviderUnavailableError(
                f"this build of onnxruntime has no execution provider {name!r}; it has {listed}."
                " Choose one of these, or install the onnxruntime build that brings it"
                " (onnxruntime-gpu for CUDAExecutionProvider)",
                provider=name,
                available=listed,
            )
