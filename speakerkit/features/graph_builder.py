"""Nodes and constants of an ONNX graph, written down one call a node."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 18  # of the ONNX operators that are used


class GraphBuilder:
    """A graph under construction; every name in it begins with ``scope``."""

    def __init__(self, scope: str):
        self.scope = scope
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: np.ndarray | int | float | list) -> str:
        """The name of a constant; whole numbers become int64, others float32."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        name = f"{self.scope}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op: str, *inputs: object, output: str = "", **attributes: object) -> str:
        """Append a node; inputs that aren't names become constants. Returns the name of its output."""
        names = [item if isinstance(item, str) else self.constant(item) for item in inputs]
        name = f"{self.scope}/{op}_{len(self.nodes)}"
        output = output or f"{name}_out"
        self.nodes.append(helper.make_node(op, names, [output], name=name, **attributes))
        return output

    def size(self, tensor: str, axis: int) -> str:
        """() int64: a tensor's size along an axis."""
        return self.add("Squeeze", self.add("Shape", tensor, start=axis, end=axis + 1), [0])
