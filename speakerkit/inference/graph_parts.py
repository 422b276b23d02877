"""A stretch of an ONNX graph as a model of its own."""

import onnx
from onnx import TensorProto, helper

from speakerkit.features.graph_names import COUNTS, RANKS


def cut_graph(data: bytes, inputs: list[str], outputs: list[str]) -> bytes:
    """The part of a graph that lies between some of its tensors.

    Args:
        data: an ONNX file.
        inputs: tensors that become inputs, of ``features.graph_names``.
        outputs: tensors that become outputs.
    """
    model = onnx.load_from_string(data)
    makers = {name: node for node in model.graph.node for name in node.output}
    kept, waiting = set(), list(outputs)
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if node is not None and name not in inputs and node.name not in kept:
            kept.add(node.name)
            waiting.extend(node.input)
    nodes = [node for node in model.graph.node if node.name in kept]
    used = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    graph = helper.make_graph(nodes, "part", [_value_info(name) for name in inputs],
                              [_value_info(name) for name in outputs], constants)
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return part.SerializeToString()


def _value_info(name: str) -> onnx.ValueInfoProto:
    if name in COUNTS:
        return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch"])
    axes = ["batch", *(f"{name}_{axis}" for axis in range(1, RANKS[name]))]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, axes)
