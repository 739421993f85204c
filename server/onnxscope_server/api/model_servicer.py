"""ModelService: messages <-> catalog."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from onnxscope.v1 import codec
from onnxscope.v1 import model_service_pb2 as pb
from onnxscope.v1.model_service_pb2_grpc import ModelServiceServicer
from onnxscope_server.api.convert import hook_point_to_pb, model_to_pb
from onnxscope_server.api.pages import page
from onnxscope_server.catalog.catalog import Catalog
from onnxscope_server.catalog.description import ModelEntry
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.upload import Upload
from onnxscope_server.errors import UploadInvalidError
from onnxscope_server.pipeline.batch_axes import BatchAxes
from onnxscope_server.plan.selectors import select
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.sessions import Sessions


class ModelServicer(ModelServiceServicer):
    """Keeps models and tells what is in them.

    Args:
        catalog: where the models are.
        sessions: made ready for models that come, dropped for those that go.
        runner: does what blocks.
        batch_axes: finds where rows are.
        check: trial load of a new model; raises ModelInvalidError.
        providers: the execution providers that sessions really get.
        forget: removes what else is kept on the disk of a model that goes, by its digest.
    """

    def __init__(
        self,
        catalog: Catalog,
        sessions: Sessions,
        runner: Runner,
        batch_axes: BatchAxes,
        check: Callable[[CatalogModel], None],
        providers: Sequence[str],
        forget: Callable[[str], None],
    ) -> None:
        self._catalog = catalog
        self._sessions = sessions
        self._runner = runner
        self._batch_axes = batch_axes
        self._check = check
        self._providers = tuple(providers)
        self._forget = forget

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        """Lists the versions of all models."""
        entries, token = page(self._catalog.entries(), request.page_size, request.page_token)
        models = [await self._describe(entry) for entry in entries]
        return pb.ListModelsResponse(models=models, next_page_token=token)

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:
        """Describes one model."""
        entry, model = await self._resolve(request.model, request.version)
        return pb.GetModelResponse(model=self._to_pb(entry, model))

    async def UnloadModel(self, request: pb.UnloadModelRequest, context: Any) -> pb.UnloadModelResponse:
        """Takes a name, a version or a digest out of the catalog."""
        entry, _ = await self._resolve(request.model, request.version)
        count = await self._runner.call(self._catalog.unload, request.model, request.version)
        if all(other.digest != entry.digest for other in self._catalog.entries()):
            await self._sessions.drop(entry.digest)
            self._batch_axes.forget(entry.digest)
            await self._runner.call(self._forget, entry.digest)
        return pb.UnloadModelResponse(unloaded_count=count)

    async def ListHookPoints(self, request: pb.ListHookPointsRequest, context: Any) -> pb.ListHookPointsResponse:
        """Lists the places of a model that can be read."""
        _, model = await self._resolve(request.model, request.version)
        points = await self._runner.call(lambda: model.points(expand=request.expand))
        selectors = list(request.selectors) or ["*"]
        points = await self._runner.call(select, points, selectors)
        found, token = page(points, request.page_size, request.page_token)
        if request.batch_axes:
            found = await self._batch_axes.annotate(model, tuple(found), expand=request.expand)
        return pb.ListHookPointsResponse(
            hook_points=[hook_point_to_pb(point) for point in found], next_page_token=token
        )

    async def UploadModel(
        self, requests: AsyncIterator[pb.UploadModelRequest], context: Any
    ) -> AsyncIterator[pb.UploadModelResponse]:
        """Brings a model into the catalog; see model_service.proto for the conversation."""
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("message") != "start":
            raise UploadInvalidError("the first message of an upload must be `start`", path="")
        start = first.start
        upload = await self._runner.call(
            self._catalog.begin_upload,
            start.graph_digest,
            start.graph_byte_count,
            start.name,
            start.version,
        )
        try:
            if upload.graph_needed:
                yield pb.UploadModelResponse(graph_wanted=pb.GraphWanted())
                await self._receive(upload, requests, {"": start.graph_byte_count})
            paths = await self._runner.call(upload.graph_done)
            if paths:
                yield pb.UploadModelResponse(digests_wanted=pb.DigestsWanted(paths=paths))
                sizes = await self._digests(upload, requests, set(paths))
                wanted = await self._runner.call(upload.files_wanted)
                if wanted:
                    yield pb.UploadModelResponse(files_wanted=pb.FilesWanted(paths=wanted))
                    await self._receive(upload, requests, {path: sizes[path] for path in wanted})
            entry, model = await self._runner.call(upload.commit, self._check)
            await self._sessions.prepare(entry.digest)
        finally:
            await self._runner.call(upload.abort)
        completed = pb.UploadCompleted(model=self._to_pb(entry, model), received_byte_count=upload.received_byte_count)
        yield pb.UploadModelResponse(completed=completed)

    async def add_file(self, path: Path, name: str, version: str) -> pb.Model:
        """Takes a file of this machine into the catalog, in place: how an embedded client loads."""
        entry = await self._runner.call(self._catalog.add_file, path, name, version, self._check)
        await self._sessions.prepare(entry.digest)
        return await self._describe(entry)

    async def _receive(
        self,
        upload: Upload,
        requests: AsyncIterator[pb.UploadModelRequest],
        missing: dict[str, int],
    ) -> None:
        """Takes chunks until every file has all its bytes."""
        left = {path: size for path, size in missing.items() if size > 0}
        while left:
            request = await anext(requests, None)
            if request is None:
                raise UploadInvalidError(
                    f"the upload ended before all bytes of {', '.join(sorted(left)) or 'the graph'} came",
                    path=next(iter(left)),
                )
            if request.WhichOneof("message") != "chunk":
                raise UploadInvalidError("chunks of the files are awaited now", path="")
            chunk = request.chunk
            if len(chunk.data) > codec.MAX_CHUNK_BYTES:
                raise UploadInvalidError(
                    f"a chunk has {len(chunk.data)} bytes, above {codec.MAX_CHUNK_BYTES}",
                    path=chunk.path,
                )
            await self._runner.call(upload.write, chunk.path, chunk.offset, chunk.data)
            if chunk.path in left:
                left[chunk.path] -= len(chunk.data)
                if left[chunk.path] <= 0:
                    del left[chunk.path]

    async def _digests(
        self, upload: Upload, requests: AsyncIterator[pb.UploadModelRequest], paths: set[str]
    ) -> dict[str, int]:
        """Takes a digest for every path; returns the sizes."""
        sizes: dict[str, int] = {}
        while paths - set(sizes):
            request = await anext(requests, None)
            if request is None:
                missing = ", ".join(sorted(paths - set(sizes)))
                raise UploadInvalidError(f"the upload ended before the digests of {missing} came", path=missing)
            if request.WhichOneof("message") == "chunk" and not request.chunk.path:
                continue  # the rest of a graph that is known already
            if request.WhichOneof("message") != "file_digest":
                raise UploadInvalidError("digests of the files are awaited now", path="")
            told = request.file_digest
            await self._runner.call(upload.file_digest, told.path, told.digest, told.byte_count)
            sizes[told.path] = told.byte_count
        return sizes

    async def _resolve(self, model: str, version: str) -> tuple[ModelEntry, CatalogModel]:
        return await self._runner.call(self._catalog.resolve, model, version)

    async def _describe(self, entry: ModelEntry) -> pb.Model:
        _, model = await self._resolve(entry.name, entry.version)
        return self._to_pb(entry, model)

    def _to_pb(self, entry: ModelEntry, model: CatalogModel) -> pb.Model:
        return model_to_pb(
            entry,
            inputs=model.inputs,
            optional_inputs=model.optional_inputs,
            outputs=model.outputs,
            providers=self._providers,
            byte_count=model.byte_count,
        )
