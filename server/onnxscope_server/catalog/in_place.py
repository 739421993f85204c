"""Models with external data that stay where they are on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onnxscope_server.catalog import digest, external_data, graph
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.runtime import Runtime
from onnxscope_server.catalog.weights import Ingested


@dataclass(frozen=True, slots=True)
class InPlace:
    """A model whose external data the catalog does not own.

    Attributes:
        model: the model.
        model_file: where it came from.
        graph_digest: of the model file.
        files: the file behind each path of its external data, links followed.
        file_digests: digest of each, by path.
    """

    model: CatalogModel
    model_file: Path
    graph_digest: str
    files: dict[str, Path]
    file_digests: dict[str, str]


def locate(model_file: Path, graph_digest: str, ingested: Ingested, runtime: Runtime | None = None) -> InPlace:
    """Finds the external data of a model on disk and makes a model that reads it there.

    onnxruntime opens only files that lie in the given folder after following links. Where they lie elsewhere (in
    Hugging Face's cache `model.onnx_data` is a link to `../../blobs/9f2c...`), the graph is made to name the files
    themselves.

    Args:
        model_file: the model.
        graph_digest: of the model file.
        ingested: what is in it.
        runtime: as of the model.

    Returns:
        The model, in place.

    Raises:
        ExternalDataMissingError: a file is missing, too short, or lies outside of the model's folder.
    """
    files = external_data.locate(model_file, ingested.needed)
    file_digests = {path: digest.of_file(file) for path, file in files.items()}
    folder = model_file.parent.resolve()
    graph_bytes = ingested.graph_bytes
    if not all(file.is_relative_to(folder) for file in files.values()):
        folder = external_data.common_folder(files.values())
        proto = graph.parse(graph_bytes)
        external_data.relocate(proto, lambda path: files[path].relative_to(folder).as_posix())
        graph_bytes = proto.SerializeToString()
    size = model_file.stat().st_size + sum(file.stat().st_size for file in files.values())
    model = CatalogModel(
        digest=digest.of_model(graph_digest, file_digests),
        byte_count=size,
        graph_bytes=graph_bytes,
        data_folder=folder,
        runtime=runtime,
    )
    return InPlace(model, model_file.resolve(), graph_digest, files, file_digests)
