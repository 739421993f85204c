"""What operators call their outputs, and which of those that a node leaves out onnxruntime makes when asked.

ONNX's own operators say it themselves (`onnx.defs`); those of onnxruntime say it only to onnxruntime, so they are
listed here, and a test compares the list with what onnxruntime says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx
import onnx.defs

_OWN_DOMAINS = ("", "ai.onnx")
_MICROSOFT = "com.microsoft"
_MASK_IS_TRUE = 12
_NONPAD_KV_SEQLEN = 6
_OPTIONAL = "?"
_RECURRENT = ("Y?", "Y_h?", "Y_c?")
_CACHED = ("output", "present_key?", "present_value?")

# those that have optional outputs and a kernel for the CPU; "?" marks the optional ones
CONTRIBUTED: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "LayerNormalization"): ("Y", "Mean?", "InvStdDev?"),  # before ONNX had it
    ("", "SimplifiedLayerNormalization"): ("Y", "inv_std_var?"),
    (_MICROSOFT, "Attention"): ("output", "present?"),
    (_MICROSOFT, "AttnLSTM"): _RECURRENT,
    (_MICROSOFT, "BeamSearch"): ("sequences", "sequences_scores?", "scores?"),
    (_MICROSOFT, "CausalConvWithState"): ("output", "present_state", "state_update?"),
    (_MICROSOFT, "DecoderMaskedMultiHeadAttention"): (*_CACHED, "qk?"),
    (_MICROSOFT, "DynamicQuantizeLSTM"): _RECURRENT,
    (_MICROSOFT, "EmbedLayerNormalization"): ("output", "mask_index?", "embedding_sum?"),
    (_MICROSOFT, "EngramGate"): ("output", "gated_value_normed?"),
    (_MICROSOFT, "GatedDeltaNet"): ("output", "final_state?", "state_update?"),
    (_MICROSOFT, "GroupQueryAttention"): (*_CACHED, "output_qk?"),
    (_MICROSOFT, "LinearAttentionGate"): ("decay", "beta?"),
    (_MICROSOFT, "MoEGroupRouter"): ("router_probs?", "selection_scores?", "router_weights?"),
    (_MICROSOFT, "MultiHeadAttention"): (*_CACHED, "qk?"),
    (_MICROSOFT, "NGramHashMapping"): ("hash_ids", "present_ids?"),
    (_MICROSOFT, "QAttention"): ("output", "present?"),
    (_MICROSOFT, "Sampling"): ("sequences", "filtered_logits?"),
    (_MICROSOFT, "SkipLayerNormalization"): ("output", "mean?", "inv_std_var?", "input_skip_bias_sum?"),
    (_MICROSOFT, "SkipSimplifiedLayerNormalization"): ("output", "mean?", "inv_std_var?", "input_skip_bias_sum?"),
    (_MICROSOFT, "VarlenCausalConvWithState"): ("output", "final_state", "state_update?"),
    (_MICROSOFT, "VarlenNGramHashMapping"): ("hash_ids", "present_ids?", "present_segment_ids?", "state_update?"),
    (_MICROSOFT, "WhisperBeamSearch"): (
        "sequences",
        "sequences_scores?",
        "scores?",
        "cross_qk?",
        "non_speech_probs?",
    ),
}

# asked for alone, onnxruntime refuses the one or the other
_TOGETHER = (frozenset({"present_key", "present_value"}),)

_Rule = Callable[[onnx.NodeProto, int], frozenset[str]]


def _nothing(*names: str) -> _Rule:
    return lambda _node, _opset: frozenset(names)


def _mask_below(_node: onnx.NodeProto, opset: int) -> frozenset[str]:
    return frozenset() if opset >= _MASK_IS_TRUE else frozenset({"mask"})


def _scores_unless_asked(node: onnx.NodeProto, _opset: int) -> frozenset[str]:
    asked = any(attribute.name == "qk_output" and attribute.i > 0 for attribute in node.attribute)
    return frozenset() if asked else frozenset({"output_qk"})


def _no_cache_beside_lengths(node: onnx.NodeProto, _opset: int) -> frozenset[str]:
    lengths = len(node.input) > _NONPAD_KV_SEQLEN and node.input[_NONPAD_KV_SEQLEN]
    return frozenset({"present_key", "present_value"}) if lengths else frozenset()


# what a schema lists and no kernel makes, or not without changing what the node computes
_NOT_MADE: dict[tuple[str, str], _Rule] = {
    # the outputs switch the training mode on before opset 14; since then it has all of them, and inference has none
    ("", "BatchNormalization"): _nothing("mean", "var", "saved_mean", "saved_var", "running_mean", "running_var"),
    # onnxruntime refuses a cache beside the lengths of the rows
    ("", "Attention"): _no_cache_beside_lengths,
    # onnxruntime fills it with zeros, where the reference says that everything is kept
    ("", "Dropout"): _mask_below,
    # it needs a cache that is shared with an input, which the model has not set up
    (_MICROSOFT, "DecoderMaskedMultiHeadAttention"): _nothing("present_key", "present_value", "qk"),
    # onnxruntime finds one output where it wants two: a model that loads has it
    (_MICROSOFT, "EmbedLayerNormalization"): _nothing("mask_index"),
    (_MICROSOFT, "GroupQueryAttention"): _scores_unless_asked,
    # it takes no mean: onnxruntime leaves what was in memory
    (_MICROSOFT, "SkipSimplifiedLayerNormalization"): _nothing("mean"),
}

# the types of these onnxruntime does not infer: they are those of the first input
_UNTYPED = frozenset({(_MICROSOFT, "MultiHeadAttention", "qk")})


@dataclass(frozen=True, slots=True)
class FormalOutput:
    """An output that a node leaves out.

    Attributes:
        index: its place among the node's outputs.
        name: what the operator calls it.
        companions: places that have to be filled with it.
        typed_by_input: whether its element type has to be stated, and is that of the node's first input.
    """

    index: int
    name: str
    companions: tuple[int, ...]
    typed_by_input: bool


def unused(node: onnx.NodeProto, opset: int) -> tuple[FormalOutput, ...]:
    """Lists the outputs that a node leaves out and onnxruntime would make.

    Args:
        node: of an operator, not a call of a local function.
        opset: version of the operator's domain that the model imports.

    Returns:
        In the operator's order; variadic outputs are not among them.
    """
    domain = "" if node.domain in _OWN_DOMAINS else node.domain
    formal = _formal(domain, node.op_type, opset)
    rule = _NOT_MADE.get((domain, node.op_type))
    not_made = rule(node, opset) if rule else frozenset()
    places = {name.removesuffix(_OPTIONAL): index for index, name in enumerate(formal)}
    used = {index for index, name in enumerate(node.output) if name}
    found = []
    for index, name in enumerate(formal):
        plain = name.removesuffix(_OPTIONAL)
        if plain == name or plain in not_made or index in used:
            continue
        group = next((group for group in _TOGETHER if plain in group), frozenset())
        companions = tuple(sorted(places[other] for other in group if other != plain and other in places))
        found.append(FormalOutput(index, plain, companions, (domain, node.op_type, plain) in _UNTYPED))
    return tuple(found)


def _formal(domain: str, op_type: str, opset: int) -> tuple[str, ...]:
    """Returns the names of an operator's outputs, optional ones marked, up to a variadic one."""
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return CONTRIBUTED.get((domain, op_type), ())
    options = onnx.defs.OpSchema.FormalParameterOption
    names = []
    for output in schema.outputs:
        if output.option == options.Variadic:
            break
        names.append(output.name + (_OPTIONAL if output.option == options.Optional else ""))
    return tuple(names)
