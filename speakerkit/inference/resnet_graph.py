"""The ResNets as ONNX graphs, node by node: the same arithmetic as ``models.blocks``, padding mask and all.

Torch's own exporter traces any network, but takes many times as long and a package more; these are the
networks that a first run exports by itself.
"""

import numpy as np
from torch import nn

from speakerkit.features.graph_builder import GraphBuilder
from speakerkit.features.graph_names import EMBEDDING, FEATURES, FRAME_OUTPUTS, NUM_FRAMES, NUM_STEPS, STATISTICS
from speakerkit.models.blocks import BottleneckBlock, Conv3x3, ResidualBlock
from speakerkit.models.resnet import ReferenceResNet34, ResNet


class _Steps:
    """The valid time steps at one resolution: their number in each utterance, and 0 or 1 for each step."""

    def __init__(self, graph: GraphBuilder, lengths: str, num_steps: str):
        self.graph, self.lengths, self.num_steps = graph, lengths, num_steps
        within = graph.add("Less", graph.add("Range", 0, num_steps, 1), graph.add("Unsqueeze", lengths, [1]))
        self.valid = graph.add("Unsqueeze", within, [1, 3])  # (batch, 1, num_steps, 1)
        self.mask = graph.add("Cast", self.valid, to=1)

    def halved(self, output: str = "") -> "_Steps":
        """After a stride of 2: ceil(n / 2)."""
        half = [self.graph.add("Div", self.graph.add("Add", n, 1), 2, output=name)
                for n, name in ((self.lengths, output), (self.num_steps, ""))]
        return _Steps(self.graph, *half)


def make_resnet(network: nn.Module) -> tuple[list, list]:
    """Nodes and constants from ``features`` and ``num_frames`` to ``embedding``.

    Args:
        network: ``ResNet`` or ``ReferenceResNet34``, batch norm folded where it can be.
    """
    graph = GraphBuilder("network")
    x, steps = _trunk(graph, network.trunk)
    if isinstance(network, ReferenceResNet34):
        x = _norm(graph, graph.add("Relu", _conv(graph, x, network.dense)), network.dense_norm)
    graph.add("Identity", x, output=FRAME_OUTPUTS)
    pool = _pool_over_time_and_frequency if isinstance(network, ReferenceResNet34) else _pool_over_time
    pool(graph, steps, network.std_floor)
    _project(graph, network)
    return graph.nodes, graph.constants


def is_known(network: nn.Module) -> bool:
    """Whether ``make_resnet`` takes it."""
    return type(network) in (ResNet, ReferenceResNet34)


def _values(tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def _trunk(graph: GraphBuilder, trunk: nn.Module) -> tuple[str, _Steps]:
    steps = _Steps(graph, NUM_FRAMES, graph.size(FEATURES, 1))
    x = _conv3x3(graph, graph.add("Unsqueeze", FEATURES, [1]), steps, trunk.stem)
    x = graph.add("Relu", _norm(graph, x, trunk.stem_norm))
    halvings = sum(block.stride == 2 for block in trunk.blocks)
    for block in trunk.blocks:
        halvings -= block.stride == 2
        after = steps if block.stride == 1 else steps.halved(NUM_STEPS if halvings == 0 else "")
        x = _block(graph, x, steps, after, block)
        steps = after
    return x, steps


def _block(
    graph: GraphBuilder, x: str, steps: _Steps, after: _Steps, block: ResidualBlock | BottleneckBlock
) -> str:
    shortcut = x
    if block.shortcut is not None:
        convolution, norm = block.shortcut
        shortcut = _norm(graph, _conv(graph, x, convolution, block.stride), norm)
    if isinstance(block, BottleneckBlock):
        x = graph.add("Relu", _norm(graph, _conv(graph, x, block.conv1), block.norm1))
        x = graph.add("Relu", _norm(graph, _conv3x3(graph, x, steps, block.conv2), block.norm2))
        return graph.add("Relu", graph.add("Add", _norm(graph, _conv(graph, x, block.conv3), block.norm3), shortcut))
    if block.pre_activation:
        x = _conv3x3(graph, graph.add("Relu", _norm(graph, x, block.norm1)), steps, block.conv1)
        x = _conv3x3(graph, graph.add("Relu", _norm(graph, x, block.norm2)), after, block.conv2)
        return graph.add("Add", x, shortcut)
    x = graph.add("Relu", _norm(graph, _conv3x3(graph, x, steps, block.conv1), block.norm1))
    x = _norm(graph, _conv3x3(graph, x, after, block.conv2), block.norm2)
    return graph.add("Relu", graph.add("Add", x, shortcut))


def _conv(graph: GraphBuilder, x: str, convolution: nn.Conv2d, stride: int = 1, **attributes) -> str:
    weights = [_values(w) for w in (convolution.weight, convolution.bias) if w is not None]
    return graph.add("Conv", x, *weights, strides=[stride, stride], **attributes)


def _conv3x3(graph: GraphBuilder, x: str, steps: _Steps, convolution: Conv3x3) -> str:
    """Steps past an utterance's end are zero, as if it were alone; see ``Conv3x3`` on the two paddings."""
    x = graph.add("Mul", x, steps.mask)
    stride = convolution.stride[0]
    if not convolution.same_padding:
        return _conv(graph, x, convolution, stride, pads=[1, 1, 1, 1])
    # Time: two further steps, which begin one earlier where the length is odd. Frequency: one before where it is odd.
    odd_bins = graph.add("Mod", graph.size(x, 3), 2)
    before = graph.add("Concat", *(graph.add("Reshape", n, [1]) for n in _as_names(graph, 0, 0, 1, odd_bins)), axis=0)
    pads = graph.add("Concat", before, [0, 0, 2, 1], axis=0)
    padded = graph.add("Pad", x, pads, 0.0)
    odd = graph.add("Equal", graph.add("Mod", steps.lengths, 2), 1)
    early = graph.add("Slice", padded, [0], [-1], [2])
    late = graph.add("Slice", padded, [1], [np.iinfo(np.int64).max], [2])
    x = graph.add("Where", graph.add("Unsqueeze", odd, [1, 2, 3]), early, late)
    return _conv(graph, x, convolution, stride)


def _as_names(graph: GraphBuilder, *items: object) -> list[str]:
    return [item if isinstance(item, str) else graph.constant(item) for item in items]


def _norm(graph: GraphBuilder, x: str, norm: nn.Module) -> str:
    """Batch norm that could not be folded; one that was does nothing."""
    if isinstance(norm, nn.Identity):
        return x
    mean, variance = _values(norm.running_mean), _values(norm.running_var)
    scale = _values(norm.weight) if norm.affine else np.ones_like(mean)
    shift = _values(norm.bias) if norm.affine else np.zeros_like(mean)
    return graph.add("BatchNormalization", x, scale, shift, mean, variance, epsilon=norm.eps)


def _masked_sum(graph: GraphBuilder, x: str, steps: _Steps, axes: list[int]) -> str:
    return graph.add("ReduceSum", graph.add("Where", steps.valid, x, 0.0), axes, keepdims=1)


def _pool_over_time(graph: GraphBuilder, steps: _Steps, std_floor: float) -> None:
    """As ``pooling.pool_over_time``: the unbiased variance, 0 of one step."""
    count = graph.add("Unsqueeze", graph.add("Cast", steps.lengths, to=1), [1, 2, 3])
    mean = graph.add("Div", _masked_sum(graph, FRAME_OUTPUTS, steps, [2]), count)
    centred = graph.add("Sub", FRAME_OUTPUTS, mean)
    squares = _masked_sum(graph, graph.add("Mul", centred, centred), steps, [2])
    divisor = graph.add("Max", graph.add("Sub", count, 1.0), 1.0)
    std = graph.add("Sqrt", graph.add("Add", graph.add("Div", squares, divisor), std_floor))
    graph.add("Concat", graph.add("Flatten", mean), graph.add("Flatten", std), axis=1, output=STATISTICS)


def _pool_over_time_and_frequency(graph: GraphBuilder, steps: _Steps, std_floor: float) -> None:
    """As ``pooling.pool_over_time_and_frequency``: the variance of the population, floored."""
    bins = graph.add("Cast", graph.size(FRAME_OUTPUTS, 3), to=1)
    count = graph.add("Mul", graph.add("Unsqueeze", graph.add("Cast", steps.lengths, to=1), [1, 2, 3]), bins)
    mean = graph.add("Div", _masked_sum(graph, FRAME_OUTPUTS, steps, [2, 3]), count)
    centred = graph.add("Sub", FRAME_OUTPUTS, mean)
    variance = graph.add("Div", _masked_sum(graph, graph.add("Mul", centred, centred), steps, [2, 3]), count)
    std = graph.add("Sqrt", graph.add("Max", variance, std_floor))
    graph.add("Concat", graph.add("Flatten", mean), graph.add("Flatten", std), axis=1, output=STATISTICS)


def _project(graph: GraphBuilder, network: nn.Module) -> None:
    second = getattr(network, "second", None) if isinstance(network, ResNet) else None
    x = _linear(graph, STATISTICS, network.embedding, EMBEDDING if second is None else "")
    if second is not None:
        activation, norm, layer = second
        assert isinstance(activation, nn.ReLU)
        _linear(graph, _norm(graph, graph.add("Relu", x), norm), layer, EMBEDDING)


def _linear(graph: GraphBuilder, x: str, layer: nn.Linear, output: str = "") -> str:
    return graph.add("Gemm", x, _values(layer.weight), _values(layer.bias), transB=1, output=output)
