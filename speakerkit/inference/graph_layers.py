"""Layers that the graphs of several networks share, node by node: the arithmetic of ``models``, padding mask and all.

Tensors are (batch, channels, time, frequency) or (batch, channels, time). Everything that looks at
neighbours in time sets what lies past an utterance's end to zero first.
"""

import functools

import numpy as np
from torch import nn

from speakerkit.features.graph_builder import GraphBuilder
from speakerkit.features.graph_names import FRAME_OUTPUTS, NUM_FRAMES, STATISTICS
from speakerkit.models.attention import Attention
from speakerkit.models.blocks import Conv3x3, ResidualBlock

TO_THE_END = np.iinfo(np.int64).max


class Steps:
    """The valid time steps at one resolution: their number in each utterance, and 0 or 1 for each step."""

    def __init__(self, graph: GraphBuilder, lengths: str, num_steps: str):
        self.graph, self.lengths, self.num_steps = graph, lengths, num_steps

    @functools.cached_property
    def within(self) -> str:
        """(batch, num_steps) bool."""
        steps = self.graph.add("Range", 0, self.num_steps, 1)
        return self.graph.add("Less", steps, self.graph.add("Unsqueeze", self.lengths, [1]))

    @functools.cached_property
    def valid(self) -> str:
        """(batch, 1, num_steps, 1) bool."""
        return self.graph.add("Unsqueeze", self.within, [1, 3])

    @functools.cached_property
    def mask(self) -> str:
        """The same as 0 or 1."""
        return self.graph.add("Cast", self.valid, to=1)

    @functools.cached_property
    def valid_in_time(self) -> str:
        """(batch, 1, num_steps) bool."""
        return self.graph.add("Unsqueeze", self.within, [1])

    @functools.cached_property
    def mask_in_time(self) -> str:
        """The same as 0 or 1."""
        return self.graph.add("Cast", self.valid_in_time, to=1)

    @functools.cached_property
    def count_in_time(self) -> str:
        """(batch, 1, 1): the valid steps, to divide by."""
        return self.graph.add("Unsqueeze", self.graph.add("Cast", self.lengths, to=1), [1, 2])

    def halved(self, output: str = "") -> "Steps":
        """After a stride of 2: ceil(n / 2)."""
        half = [self.graph.add("Div", self.graph.add("Add", n, 1), 2, output=name)
                for n, name in ((self.lengths, output), (self.num_steps, ""))]
        return Steps(self.graph, *half)

    def of(self, x: str) -> "Steps":
        """The same lengths, the number of steps taken from a tensor: what follows then depends on no earlier one."""
        return Steps(self.graph, self.lengths, self.graph.size(x, 2))


def frames_of(graph: GraphBuilder, features: str) -> Steps:
    """The frames of (batch, num_frames, columns)."""
    return Steps(graph, NUM_FRAMES, graph.size(features, 1))


def values(tensor) -> np.ndarray:
    """A tensor's values, float32."""
    return tensor.detach().float().cpu().numpy()


def convolve(graph: GraphBuilder, x: str, convolution: nn.Module, strides: tuple[int, ...] = (), **attributes) -> str:
    """A convolution of one or two dimensions; padding and strides are the caller's."""
    weights = [values(w) for w in (convolution.weight, convolution.bias) if w is not None]
    strides = list(strides or [1] * (weights[0].ndim - 2))
    return graph.add("Conv", x, *weights, strides=strides, dilations=list(convolution.dilation), **attributes)


def conv3x3(graph: GraphBuilder, x: str, steps: Steps, convolution: Conv3x3) -> str:
    """Steps past an utterance's end are zero, as if it were alone; see ``Conv3x3`` on the two paddings."""
    x = graph.add("Mul", x, steps.mask)
    if not convolution.same_padding:
        return convolve(graph, x, convolution, convolution.stride, pads=[1, 1, 1, 1])
    # Time: two further steps, which begin one earlier where the length is odd. Frequency: one before where it is odd.
    odd_bins = graph.add("Mod", graph.size(x, 3), 2)
    before = graph.add("Concat", *(graph.add("Reshape", n, [1]) for n in _as_names(graph, 0, 0, 1, odd_bins)), axis=0)
    pads = graph.add("Concat", before, [0, 0, 2, 1], axis=0)
    padded = graph.add("Pad", x, pads, 0.0)
    odd = graph.add("Equal", graph.add("Mod", steps.lengths, 2), 1)
    early = graph.add("Slice", padded, [0], [-1], [2])
    late = graph.add("Slice", padded, [1], [TO_THE_END], [2])
    x = graph.add("Where", graph.add("Unsqueeze", odd, [1, 2, 3]), early, late)
    return convolve(graph, x, convolution, convolution.stride)


def _as_names(graph: GraphBuilder, *items: object) -> list[str]:
    return [item if isinstance(item, str) else graph.constant(item) for item in items]


def batch_norm(graph: GraphBuilder, x: str, norm: nn.Module) -> str:
    """Batch norm that could not be folded; one that was does nothing."""
    if isinstance(norm, nn.Identity):
        return x
    mean, variance = values(norm.running_mean), values(norm.running_var)
    scale = values(norm.weight) if norm.affine else np.ones_like(mean)
    shift = values(norm.bias) if norm.affine else np.zeros_like(mean)
    return graph.add("BatchNormalization", x, scale, shift, mean, variance, epsilon=norm.eps)


def linear(graph: GraphBuilder, x: str, layer: nn.Linear, output: str = "") -> str:
    """(batch, in) to (batch, out)."""
    weights = [values(w) for w in (layer.weight, layer.bias) if w is not None]
    return graph.add("Gemm", x, *weights, transB=1, output=output)


def residual_block(graph: GraphBuilder, x: str, steps: Steps, after: Steps, block: ResidualBlock) -> str:
    """As ``blocks.ResidualBlock``; ``steps`` and ``after`` are those of its input and output."""
    shortcut = project_shortcut(graph, x, block, (block.time_stride, block.stride))
    if block.pre_activation:
        x = conv3x3(graph, graph.add("Relu", batch_norm(graph, x, block.norm1)), steps, block.conv1)
        x = conv3x3(graph, graph.add("Relu", batch_norm(graph, x, block.norm2)), after, block.conv2)
        return graph.add("Add", x, shortcut)
    x = graph.add("Relu", batch_norm(graph, conv3x3(graph, x, steps, block.conv1), block.norm1))
    x = batch_norm(graph, conv3x3(graph, x, after, block.conv2), block.norm2)
    return graph.add("Relu", graph.add("Add", x, shortcut))


def project_shortcut(graph: GraphBuilder, x: str, block: nn.Module, strides: tuple[int, int]) -> str:
    """A block's input as it is added to its output."""
    if block.shortcut is None:
        return x
    convolution, norm = block.shortcut
    return batch_norm(graph, convolve(graph, x, convolution, strides), norm)


def channels_in_bins(graph: GraphBuilder, x: str, channels: int, output: str = "") -> str:
    """(batch, c, time, freq) to (batch, channels, time), index c * freq + f."""
    return graph.add("Reshape", graph.add("Transpose", x, perm=[0, 1, 3, 2]), [0, channels, -1], output=output)


def masked_sum(graph: GraphBuilder, x: str, steps: Steps, axes: list[int]) -> str:
    """The sum over the valid steps of a tensor with frequency, its axes kept."""
    return graph.add("ReduceSum", graph.add("Where", steps.valid, x, 0.0), axes, keepdims=1)


def pool_over_time(graph: GraphBuilder, x: str, steps: Steps, std_floor: float, output: str = STATISTICS) -> str:
    """As ``pooling.pool_over_time``: (batch, 2 * channels * freq); the unbiased variance, 0 of one step."""
    count = graph.add("Unsqueeze", graph.add("Cast", steps.lengths, to=1), [1, 2, 3])
    mean = graph.add("Div", masked_sum(graph, x, steps, [2]), count)
    centred = graph.add("Sub", x, mean)
    squares = masked_sum(graph, graph.add("Mul", centred, centred), steps, [2])
    divisor = graph.add("Max", graph.add("Sub", count, 1.0), 1.0)
    std = graph.add("Sqrt", graph.add("Add", graph.add("Div", squares, divisor), std_floor))
    return graph.add("Concat", graph.add("Flatten", mean), graph.add("Flatten", std), axis=1, output=output)


def pool_over_time_and_frequency(graph: GraphBuilder, steps: Steps, std_floor: float) -> None:
    """As ``pooling.pool_over_time_and_frequency``: the variance of the population, floored."""
    bins = graph.add("Cast", graph.size(FRAME_OUTPUTS, 3), to=1)
    count = graph.add("Mul", graph.add("Unsqueeze", graph.add("Cast", steps.lengths, to=1), [1, 2, 3]), bins)
    mean = graph.add("Div", masked_sum(graph, FRAME_OUTPUTS, steps, [2, 3]), count)
    centred = graph.add("Sub", FRAME_OUTPUTS, mean)
    variance = graph.add("Div", masked_sum(graph, graph.add("Mul", centred, centred), steps, [2, 3]), count)
    std = graph.add("Sqrt", graph.add("Max", variance, std_floor))
    graph.add("Concat", graph.add("Flatten", mean), graph.add("Flatten", std), axis=1, output=STATISTICS)


def pool_by_attention(graph: GraphBuilder, x: str, weights: str, steps: Steps, std_floor: float) -> str:
    """As ``pooling.pool_by_attention``: (batch, channels, num_steps) twice to (batch, 2 * channels, 1)."""
    x = graph.add("Where", steps.valid_in_time, x, 0.0)
    weights = graph.add("Softmax", graph.add("Where", steps.valid_in_time, weights, -np.inf), axis=2)
    mean = graph.add("ReduceSum", graph.add("Mul", weights, x), [2], keepdims=1)
    centred = graph.add("Sub", x, mean)
    squares = graph.add("Mul", weights, graph.add("Mul", centred, centred))
    variance = graph.add("ReduceSum", squares, [2], keepdims=1)
    return graph.add("Concat", mean, graph.add("Sqrt", graph.add("Max", variance, std_floor)), axis=1)


def mean_over_time(graph: GraphBuilder, x: str, steps: Steps) -> str:
    """As ``time_convolution.mean_over_time``: (batch, channels, 1)."""
    return graph.add("Div", graph.add("ReduceSum", graph.add("Mul", x, steps.mask_in_time), [2], keepdims=1),
                     steps.count_in_time)


def attend(graph: GraphBuilder, x: str, steps: Steps, attention: Attention) -> str:
    """As ``attention.Attention``: (batch, channels, num_steps), before any softmax."""
    seen = x
    if attention.global_context:
        if attention.biased:
            context = pool_by_attention(graph, x, graph.add("Mul", x, 0.0), steps, attention.std_floor)
        else:
            flat = pool_over_time(graph, graph.add("Unsqueeze", x, [3]), steps, attention.std_floor, "")
            context = graph.add("Unsqueeze", flat, [2])
        like_x = graph.add("Concat", [1, 1], graph.add("Unsqueeze", steps.num_steps, [0]), axis=0)
        seen = graph.add("Concat", x, graph.add("Expand", context, like_x), axis=1)
    squeezed = convolve(graph, seen, attention.squeeze)
    if attention.norm is not None:
        squeezed = batch_norm(graph, graph.add("Relu", squeezed), attention.norm)
    return convolve(graph, graph.add("Tanh", squeezed), attention.excite)
