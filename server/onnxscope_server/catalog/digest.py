"""SHA-256 of files and of models."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Tells whether a text is a full digest: 64 lower-case hex digits."""
    return _DIGEST.fullmatch(text) is not None


def of_file(path: Path) -> str:
    """Returns the SHA-256 of a file in lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_model(graph_digest: str, files: Mapping[str, str]) -> str:
    """Returns a model's digest; see `Model.digest` in model_service.proto.

    Args:
        graph_digest: of the model file.
        files: digest of each file of external data, by its path relative to the model's folder.

    Returns:
        That of the model file; with external data, that of the list of all files.
    """
    if not files:
        return graph_digest
    lines = [f"graph {graph_digest}\n", *(f"{files[path]} {path}\n" for path in sorted(files))]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
