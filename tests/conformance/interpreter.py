"""The truth to compare with: a model computed node by node, each in an onnxruntime session of its own.

Control flow and calls of functions are interpreted here, in the plainest way; nothing is shared with the rewriter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxscope_server.domain import Segment
from onnxscope_server.errors import ModelInvalidError, OnnxscopeServerError
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.session import Session

MISSING = object()


@dataclass
class Record:
    """What one graph held in one run, and what the graphs in its nodes held, run after run.

    `inner` is keyed by the name of the node's first output and by attribute or function.
    """

    values: dict[str, Any] = field(default_factory=dict)
    inner: dict[tuple[str, str], list[Record]] = field(default_factory=dict)
    repeats: dict[tuple[str, str], bool] = field(default_factory=dict)


def interpret(model: onnx.ModelProto, feeds: Mapping[str, Any], folder: str = "") -> Record:
    """Computes a model; arrays in and out, sequences as lists, absent optionals as None."""
    return _Interpreter(model, folder).main(feeds)


class _Interpreter:
    def __init__(self, model: onnx.ModelProto, folder: str) -> None:
        self._model = model
        self._folder = folder
        self._functions = {(item.domain, item.name, item.overload): item for item in model.functions}
        self._sessions: dict[Any, Session] = {}
        self._arrays: dict[int, tuple[onnx.TensorProto, Any]] = {}
        self._weights: dict[int, Any] = {}

    def main(self, feeds: Mapping[str, Any]) -> Record:
        record = Record()
        scope = dict(feeds)
        self._graph(self._model.graph, scope, record, {}, self._model.opset_import)
        return record

    def _graph(self, graph: Any, scope: dict[str, Any], record: Record, attributes: Any, opsets: Any) -> list[Any]:
        constants = {tensor.name: tensor for tensor in graph.initializer}
        for name, tensor in constants.items():
            if name not in scope or graph is not self._model.graph:
                if id(tensor) not in self._arrays:
                    # an id is one as long as its object lives
                    self._arrays[id(tensor)] = tensor, _array(tensor, self._folder)
                _, scope[name] = self._arrays[id(tensor)]
                self._weights[id(scope[name])] = scope[name]
        for sparse in graph.sparse_initializer:
            scope[sparse.values.name] = _dense(sparse)
        record.values |= {item.name: scope[item.name] for item in graph.input if item.name in scope}
        record.values |= {name: scope[name] for name in constants}
        self._nodes(graph.node, scope, record, attributes, opsets)
        return [scope[item.name] for item in graph.output]

    def _nodes(self, nodes: Any, scope: dict[str, Any], record: Record, attributes: Any, opsets: Any) -> None:
        waiting = list(nodes)
        made = {name for node in waiting for name in node.output if name}
        while waiting:
            pending = []
            for node in waiting:
                if any(name in made and name not in record.values for name in _reads(node)):
                    pending.append(node)
                    continue
                outputs = self._known(node, scope, record, attributes, opsets)
                for name, value in zip(node.output, outputs, strict=False):
                    if name:
                        scope[name] = record.values[name] = value
            if len(pending) == len(waiting):
                raise ValueError("the nodes wait for each other")
            waiting = pending

    def _known(self, node: Any, scope: dict[str, Any], record: Record, attributes: Any, opsets: Any) -> Sequence[Any]:
        """Computes a node whose inputs are known; MISSING where they are not, or onnxruntime has it only in a model."""
        if any(scope.get(name) is MISSING for name in _reads(node)):
            return [MISSING] * len(node.output)
        try:
            return self._node(node, scope, record, attributes, opsets)
        except (OnnxscopeServerError, NotImplementedError):
            return [MISSING] * len(node.output)

    def _node(self, node: Any, scope: dict[str, Any], record: Record, attributes: Any, opsets: Any) -> Sequence[Any]:
        key = node.domain, node.op_type, node.overload
        anchor = next((name for name in node.output if name), "")
        inputs = [scope[name] if name else None for name in node.input]
        own = node.domain in ("", "ai.onnx")
        if key in self._functions:
            function = self._functions[key]
            inner = Record()
            record.inner[anchor, node.op_type] = [inner]
            record.repeats[anchor, node.op_type] = False
            given = {item.name: item for item in function.attribute_proto}
            given |= {item.name: _resolved(item, attributes) for item in node.attribute}
            inside = {name: value for name, value in zip(function.input, inputs, strict=False) if name}
            inside |= dict.fromkeys(function.input[len(inputs) :])
            inner.values |= inside
            self._nodes(function.node, inside, inner, given, function.opset_import)
            return [inside[name] for name in function.output]
        graphs = {item.name: item.g for item in node.attribute if item.type == onnx.AttributeProto.GRAPH}
        if own and node.op_type == "If":
            where = "then_branch" if bool(np.asarray(inputs[0]).reshape(-1)[0]) else "else_branch"
            for name in graphs:
                record.inner[anchor, name], record.repeats[anchor, name] = [], False
            return self._inner(graphs[where], (anchor, where), scope, {}, record, attributes, opsets)
        if own and node.op_type == "Loop":
            return self._loop(node, graphs["body"], anchor, inputs, scope, record, attributes, opsets)
        if own and node.op_type == "Scan":
            return self._scan(node, graphs["body"], anchor, inputs, scope, record, attributes, opsets)
        if own and node.op_type == "SequenceMap":
            record.inner[anchor, "body"], record.repeats[anchor, "body"] = [], True
            names = [item.name for item in graphs["body"].input]
            rows = []
            for index in range(len(inputs[0])):
                row = [value[index] if isinstance(value, list) else value for value in inputs]
                rows.append(
                    self._inner(
                        graphs["body"],
                        (anchor, "body"),
                        scope,
                        dict(zip(names, row, strict=False)),
                        record,
                        attributes,
                        opsets,
                    )
                )
            return [list(column) for column in zip(*rows, strict=False)] if rows else [[] for _ in node.output]
        return self._plain(node, inputs, scope, attributes, opsets)

    def _inner(
        self, graph: Any, where: Any, scope: Any, own: Any, record: Record, attributes: Any, opsets: Any
    ) -> list[Any]:
        inner = Record(values=dict(own))
        record.inner[where].append(inner)
        return self._graph(graph, {**scope, **own}, inner, attributes, opsets)

    def _loop(
        self, node: Any, body: Any, anchor: str, inputs: Any, scope: Any, record: Any, attributes: Any, opsets: Any
    ) -> Any:
        record.inner[anchor, "body"], record.repeats[anchor, "body"] = [], True
        inputs = [*inputs, None, None][: max(len(inputs), 2)]
        trips = None if inputs[0] is None else int(np.asarray(inputs[0]).reshape(-1)[0])
        condition = True if inputs[1] is None else bool(np.asarray(inputs[1]).reshape(-1)[0])
        state = list(inputs[2:])
        names = [item.name for item in body.input]
        scanned: list[list[Any]] = []
        # old files declare [1] for the index and the condition
        shapes = [[1] * len(item.type.tensor_type.shape.dim) for item in body.input[:2]]
        trip = 0
        while condition and (trips is None or trip < trips):
            counters = [np.full(shape, value) for shape, value in zip(shapes, (np.int64(trip), condition), strict=True)]
            own = dict(zip(names, [*counters, *state], strict=False))
            outputs = self._inner(body, (anchor, "body"), scope, own, record, attributes, opsets)
            condition = bool(np.asarray(outputs[0]).reshape(-1)[0])
            state = outputs[1 : 1 + len(state)]
            scanned.append(outputs[1 + len(state) :])
            trip += 1
        columns = zip(*scanned, strict=False) if scanned else [MISSING] * (len(body.output) - 1 - len(state))
        return [*state, *(MISSING if column is MISSING else _stack(column) for column in columns)]

    def _scan(
        self, node: Any, body: Any, anchor: str, inputs: Any, scope: Any, record: Any, attributes: Any, opsets: Any
    ) -> Any:
        told = {
            item.name: helper.get_attribute_value(_resolved(item, attributes))
            for item in node.attribute
            if item.name != "body"
        }
        version = _version(opsets)
        if version < 9:
            raise NotImplementedError("Scan-8")
        record.inner[anchor, "body"], record.repeats[anchor, "body"] = [], True
        count = told["num_scan_inputs"]
        state, sequences = list(inputs[: len(inputs) - count]), inputs[len(inputs) - count :]
        axes = told.get("scan_input_axes", [0] * count)
        directions = told.get("scan_input_directions", [0] * count)
        moved = [np.moveaxis(value, axis, 0) for value, axis in zip(sequences, axes, strict=False)]
        moved = [value[::-1] if direction else value for value, direction in zip(moved, directions, strict=False)]
        names = [item.name for item in body.input]
        scanned = []
        for index in range(len(moved[0])):
            row = [*state, *(np.ascontiguousarray(value[index]).reshape(value.shape[1:]) for value in moved)]
            outputs = self._inner(
                body, (anchor, "body"), scope, dict(zip(names, row, strict=False)), record, attributes, opsets
            )
            state = outputs[: len(state)]
            scanned.append(outputs[len(state) :])
        wanted = len(body.output) - len(state)
        out_axes, out_directions = (
            told.get("scan_output_axes", [0] * wanted),
            told.get("scan_output_directions", [0] * wanted),
        )
        columns = []
        for column, axis, direction in zip(zip(*scanned, strict=False), out_axes, out_directions, strict=False):
            stacked = np.stack(column[::-1] if direction else column)
            columns.append(np.moveaxis(stacked, 0, axis))
        return [*state, *(columns or [MISSING] * wanted)]

    def _plain(self, node: Any, inputs: Any, scope: Any, attributes: Any, opsets: Any) -> Sequence[Any]:
        named: dict[str, Any] = {name: value for name, value in zip(node.input, inputs, strict=False) if name}
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                named |= {name: scope[name] for name in _free(attribute.g) if name in scope}
        named = {name: value for name, value in named.items() if value is not None}
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        del copied.attribute[:]
        copied.attribute.extend(item for item in (_resolved(one, attributes) for one in node.attribute) if item)
        copied.input[:] = [name if name in named else "" for name in node.input]
        while copied.input and not copied.input[-1]:
            del copied.input[-1]
        # kernels may compute otherwise with weights than with inputs
        weights = {name: value for name, value in named.items() if id(value) in self._weights}
        types = {name: _type(value) for name, value in named.items() if name not in weights}
        key = (
            tuple((name, id(value)) for name, value in sorted(weights.items())),
            copied.SerializeToString(),
            tuple((name, kind.SerializeToString()) for name, kind in sorted(types.items())),
            _version(opsets),
        )
        session = self._sessions.get(key)
        outputs = [name for name in node.output if name]
        if session is None:
            graph = helper.make_graph(
                [copied],
                "one",
                [onnx.ValueInfoProto(name=name, type=kind) for name, kind in types.items()],
                [onnx.ValueInfoProto(name=name) for name in outputs],
                [numpy_helper.from_array(value, name) for name, value in weights.items()],
            )
            one = helper.make_model(
                graph, opset_imports=opsets, ir_version=max(self._model.ir_version, 8), functions=[]
            )
            session = self._sessions[key] = _session(one, named)
        found = session.run({name: named[name] for name in session.segment.inputs}, outputs)
        return [found.get(name) for name in node.output]


def _session(one: onnx.ModelProto, named: Mapping[str, Any]) -> Session:
    try:
        return Session(_segment(one), Opening(intra_op_threads=1), exact=True)
    except ModelInvalidError:
        # some kernels want constants for inputs after the first
        for item in list(one.graph.input)[1:]:
            if isinstance(named[item.name], np.ndarray):
                one.graph.initializer.append(numpy_helper.from_array(named[item.name], item.name))
                one.graph.input.remove(item)
        return Session(_segment(one), Opening(intra_op_threads=1), exact=True)


def _segment(one: onnx.ModelProto) -> Segment:
    names = tuple(item.name for item in one.graph.input)
    outputs = tuple(item.name for item in one.graph.output)
    return Segment(one.SerializeToString(), None, {}, outputs, names, {}, 1)


def _type(value: Any) -> onnx.TypeProto:
    if isinstance(value, list):
        inner = _type(value[0]) if value else helper.make_tensor_type_proto(1, None)
        return helper.make_sequence_type_proto(inner)
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind in "US":
        return helper.make_tensor_type_proto(onnx.TensorProto.STRING, [None] * array.ndim)
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)


def _array(tensor: onnx.TensorProto, folder: str) -> Any:
    array = numpy_helper.to_array(tensor, folder)
    texts = tensor.data_type == onnx.TensorProto.STRING
    return array.astype(str).astype(object) if texts else array


def _dense(sparse: onnx.SparseTensorProto) -> Any:
    values, places = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if places.ndim == 1:
        dense.reshape(-1)[places] = values
    else:
        dense[tuple(places.T)] = values
    return dense


def _stack(column: Sequence[Any]) -> Any:
    return np.stack([np.asarray(item) for item in column])


def _resolved(attribute: Any, attributes: Mapping[str, Any]) -> Any:
    if not attribute.ref_attr_name:
        return attribute
    given = attributes.get(attribute.ref_attr_name)
    if given is None:
        return None
    resolved = onnx.AttributeProto()
    resolved.CopyFrom(given)
    resolved.name = attribute.name
    return resolved


def _version(opsets: Any) -> int:
    return next((item.version for item in opsets if item.domain in ("", "ai.onnx")), 1)


def _reads(node: Any) -> Iterable[str]:
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield from _free(attribute.g)


def _free(graph: Any) -> set[str]:
    own = {item.name for item in graph.input} | {item.name for item in graph.initializer}
    own |= {name for node in graph.node for name in node.output}
    read = {item.name for item in graph.output}
    for node in graph.node:
        read.update(_reads(node))
    return {name for name in read - own if name}
