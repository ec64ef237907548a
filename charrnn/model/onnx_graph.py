"""A CharRNN as an ONNX graph, built node by node from its weights.

Not by ``torch.onnx``: its older exporter is deprecated, its newer one needs one more package, and the graph is small.
ONNX has the same recurrent layers, with the gates in another order and both biases in one tensor
(https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html, onnx__RNN.html).

Shapes: B streams, T window, E embedding, H hidden, V vocabulary, K layers. Time comes first, as inside the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from charrnn.model.charrnn import CharRNN

OPSET = 17  # the newest operator used here came with 13; 17 is read by every onnxruntime since 1.12
IR_VERSION = 8  # what goes with it
# ONNX's order of the gates, as places in torch's: input, output, forget, cell; update, reset, new.
GATE_ORDER = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn_tanh": [0], "rnn_relu": [0]}
OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
# A GRU's reset gate scales the hidden part of the new gate with its bias, as in torch; ONNX's own default does not.
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "lstm": {},
    "gru": {"linear_before_reset": 1},
    "rnn_tanh": {"activations": ["Tanh"]},
    "rnn_relu": {"activations": ["Relu"]},
}


def state_names(model: CharRNN, moment: int) -> list[str]:
    """Names of the state's tensors before (0) or after (1) the window: ``h0`` and, of an LSTM, ``c0``."""
    return [f"{part}{moment}" for part in ("h", "c")[: len(model.zero_hidden(1))]]


def onnx_model(model: CharRNN, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """The network without dropout, with the state as explicit inputs and outputs.

    Inputs: ``ids``, int64 (B, T), and the state before the window, ``h0`` and for an LSTM ``c0``, float32 (K, B, H).
    Outputs: ``logits``, float32 (B, T, V), and the state after it, ``h1`` and ``c1``. B and T may be any number.
    """
    graph = _Graph()
    signal = _embed(graph, model, graph.add("Transpose", ["ids"], "ids_by_time", perm=[1, 0]))
    ones = graph.constant("one_per_layer", torch.ones(len(model.layers), dtype=torch.int64))
    for name in state_names(model, 0):
        graph.add("Split", [name, ones], *(f"{name}.{k}" for k in range(len(model.layers))), axis=0)
    for k, layer in enumerate(model.recurrent_layers):
        output = _recur(graph, model, k, layer, signal)
        skips = k > 0 and model.config.skip_connections
        signal = graph.add("Add", [output, signal], f"layers.{k}.sum") if skips else output
    for name in state_names(model, 1):
        graph.add("Concat", [f"{name}.{k}" for k in range(len(model.layers))], name, axis=0)
    _decode(graph, model, signal)
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "charrnn", *_interface(model), graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="charrnn",
    )
    helper.set_model_props(proto, dict(metadata))
    return proto


class _Graph:
    """Nodes, in the order in which they are computed, and constants."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        """One more node; the name of its first output."""
        self.nodes.append(
            helper.make_node(operator, inputs, list(outputs), name=f"{operator}:{outputs[0]}", **attributes)
        )
        return outputs[0]

    def constant(self, name: str, tensor: Tensor) -> str:
        """A tensor that the graph brings along; its name."""
        self.constants.append(numpy_helper.from_array(tensor.detach().contiguous().numpy(), name))
        return name


def _interface(model: CharRNN) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """What goes in and what comes out, with the names of the free axes."""
    state: list[str | int | None] = [model.config.num_layers, "batch", model.config.hidden_size]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "time"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "time", model.vocab_size])
    before, after = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, state) for name in state_names(model, moment)]
        for moment in (0, 1)
    )
    return [ids, *before], [logits, *after]


def _embed(graph: _Graph, model: CharRNN, ids: str) -> str:
    """Ids, (T, B), to vectors, (T, B, E), or one-hot rows, (T, B, V)."""
    if model.embedding is not None:
        return graph.add("Gather", [graph.constant("embedding.weight", model.embedding.weight), ids], "embedded")
    depth = graph.constant("vocab_size", torch.tensor(model.vocab_size))
    return graph.add("OneHot", [ids, depth, graph.constant("off_and_on", torch.tensor([0.0, 1.0]))], "embedded")


def _recur(graph: _Graph, model: CharRNN, k: int, layer: nn.RNNBase, signal: str) -> str:
    """Layer ``k``: (T, B, E or H) to (T, B, H)."""
    cell = model.config.cell
    here = f"layers.{k}"

    def ordered(name: str) -> Tensor:
        gates = layer.get_parameter(f"{name}_l0").split(model.config.hidden_size)
        return torch.cat([gates[place] for place in GATE_ORDER[cell]])

    weights = [
        graph.constant(f"{here}.W", ordered("weight_ih")[None]),
        graph.constant(f"{here}.R", ordered("weight_hh")[None]),
        graph.constant(f"{here}.B", torch.cat([ordered("bias_ih"), ordered("bias_hh")])[None]),
    ]
    before, after = ([f"{name}.{k}" for name in state_names(model, moment)] for moment in (0, 1))
    every_length_is_the_window = ""
    # Its output has an axis of directions, of which there is one.
    output = graph.add(
        OPERATORS[cell],
        [signal, *weights, every_length_is_the_window, *before],
        f"{here}.directions",
        *after,
        hidden_size=model.config.hidden_size,
        **ATTRIBUTES[cell],
    )
    return graph.add("Squeeze", [output, graph.constant(f"{here}.axis", torch.tensor([1]))], f"{here}.output")


def _decode(graph: _Graph, model: CharRNN, signal: str) -> None:
    """The last layer's output, (T, B, H), to ``logits``, (B, T, V)."""
    weight = "embedding.weight" if model.config.tie_weights else graph.constant("decoder.weight", model.decoder.weight)
    transposed = graph.add("Transpose", [weight], "decoder.transposed", perm=[1, 0])
    product = graph.add("MatMul", [signal, transposed], "decoder.product")
    total = graph.add("Add", [product, graph.constant("decoder.bias", model.decoder.bias)], "logits_by_time")
    graph.add("Transpose", [total], "logits", perm=[1, 0, 2])
