"""How a server's sessions are opened: execution providers, threads, memory and options."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxscope_server.run.environment import SILENT, check_custom_ops, ort, shared_arena, threads_are_shared
from onnxscope_server.run.failures import load_failure

_DATA_FOLDER = "session.model_external_initializers_file_folder_path"
_STOP_SPINNING = "session.force_spinning_stop"


@dataclass(frozen=True, slots=True)
class Opening:
    """How sessions are opened; all sessions of a server are opened alike.

    Attributes:
        providers: execution providers, first choice first.
        intra_op_threads: threads that one run computes with; 0 leaves it to onnxruntime.
        session_options: an application's own `onnxruntime.SessionOptions`, used for every session instead of the
            threads above. It can't be copied: what a session needs besides is set on it, and set back.
        custom_ops: libraries of custom operators.

    Raises:
        TypeError: session_options are something else, or bring what is to be said here.
        CustomOpsInvalidError: a library can't be used.
    """

    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    intra_op_threads: int = 0
    session_options: Any = None
    custom_ops: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        options = self.session_options
        if options is not None and not isinstance(options, ort.SessionOptions):
            raise TypeError(f"session_options must be an onnxruntime.SessionOptions, not {type(options).__name__}")
        if options is not None and options.has_providers():
            raise TypeError("session_options brings execution providers of its own; name them with providers= instead")
        if options is not None and self.custom_ops:
            raise TypeError(
                "register libraries of custom operators with session_options, or name them with custom_ops="
            )
        check_custom_ops(self.custom_ops)

    @property
    def threads_are_pinned(self) -> bool:
        """Whether onnxruntime pins the threads of sessions, each to a core, and leaves out the first core."""
        return self.session_options is None and not threads_are_shared() and self.intra_op_threads == 0

    @property
    def without_threads(self) -> Opening | None:
        """The same for sessions that compute in the thread that runs them; None where that can't be said, or is so."""
        if self.session_options is not None or threads_are_shared() or self.intra_op_threads == 1:
            return None
        return replace(self, intra_op_threads=1)

    def open(
        self,
        graph: bytes,
        data_folder: Path | None,
        *,
        exact: bool,
        optimised_file: Path | None = None,
        entries: Mapping[str, str] | None = None,
    ) -> Any:
        """Makes an onnxruntime session.

        Args:
            graph: serialised ModelProto.
            data_folder: where its external data lies.
            exact: without optimisation.
            optimised_file: where to write the optimised graph.
            entries: further session configuration.

        Raises:
            ModelInvalidError: onnxruntime refuses the graph.
            OutOfMemoryError: there is not enough memory for it.
        """
        with self.options(data_folder, exact=exact, optimised_file=optimised_file, entries=entries) as options:
            try:
                return ort.InferenceSession(graph, options, providers=list(self.providers), enable_fallback=0)
            except Exception as error:
                raise load_failure(error) from error

    @contextmanager
    def options(
        self,
        data_folder: Path | None,
        *,
        exact: bool,
        optimised_file: Path | None = None,
        entries: Mapping[str, str] | None = None,
    ) -> Iterator[Any]:
        """Gives the `onnxruntime.SessionOptions` of a session; see `open`."""
        settings = dict(entries or {})
        if data_folder is not None:
            settings[_DATA_FOLDER] = str(data_folder)
        if self.session_options is None:
            options = ort.SessionOptions()
            if threads_are_shared():
                options.use_per_session_threads = False
            else:
                options.intra_op_num_threads = self.intra_op_threads
            # threads that wait busily after a run would wait on the time of other sessions and of the network
            options.add_session_config_entry(_STOP_SPINNING, "1")
            options.log_severity_level = SILENT
            for library in self.custom_ops:
                options.register_custom_ops_library(str(library))
            self._set(options, {**shared_arena(), **settings}, optimised_file, exact=exact)
            yield options
            return
        options = self.session_options
        with _application_options:
            level, file = options.graph_optimization_level, options.optimized_model_filepath
            before = {key: _entry(options, key) for key in settings}
            self._set(options, settings, optimised_file, exact=exact)
            try:
                # a session copies its options when it is made
                yield options
            finally:
                options.graph_optimization_level = level
                options.optimized_model_filepath = file
                for key, value in before.items():
                    options.add_session_config_entry(key, value)

    def _set(self, options: Any, settings: Mapping[str, str], optimised_file: Path | None, *, exact: bool) -> None:
        if exact:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if optimised_file is not None:
            options.optimized_model_filepath = str(optimised_file)
        for key, value in settings.items():
            options.add_session_config_entry(key, value)


def _entry(options: Any, key: str) -> str:
    try:
        return str(options.get_session_config_entry(key))
    except RuntimeError:
        return ""


_application_options = threading.Lock()
