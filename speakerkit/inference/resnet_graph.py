"""The ResNets and ERes2Nets as ONNX graphs, node by node: the same arithmetic as ``models``, padding mask and all.

Torch's own exporter would trace them, but takes 10 to 40 s a network where this takes a tenth of a second, and
its graphs have no tensors at which they can be cut.
"""

from collections.abc import Callable

from torch import nn

from speakerkit.features.graph_builder import GraphBuilder
from speakerkit.features.graph_names import CONVOLVED, EMBEDDING, FEATURES, FRAME_OUTPUTS, NUM_STEPS, STATISTICS
from speakerkit.inference.graph_layers import (
    Steps,
    attend,
    batch_norm,
    channels_in_bins,
    conv3x3,
    convolve,
    frames_of,
    linear,
    masked_sum,
    pool_by_attention,
    pool_over_time,
    pool_over_time_and_frequency,
    project_shortcut,
    residual_block,
)
from speakerkit.models.blocks import BottleneckBlock, ResidualBlock
from speakerkit.models.eres2net import MOST_ACTIVATION, AttentiveFusion, ERes2Net, Res2Block, Res2Net
from speakerkit.models.resnet import ReferenceResNet34, ResNet
from speakerkit.models.resnet_speechbrain import AttentiveResNet, PreActivationBlock, SpeechBrainResNet
from speakerkit.models.simam import VARIANCE_FLOOR, SimamBlock, SimamResNet


def add_resnet(graph: GraphBuilder, network: ResNet | ReferenceResNet34) -> None:
    """From ``features`` and ``num_frames`` to ``embedding``; batch norm is folded where it can be."""
    x, steps = _trunk(graph, network.trunk)
    if isinstance(network, ReferenceResNet34):
        x = batch_norm(graph, graph.add("Relu", convolve(graph, x, network.dense)), network.dense_norm)
    if isinstance(network, ResNet) and network.attention is not None:  # not run in parts: cut where bfloat16 ends
        _pool_convolved(graph, x, steps, network)
        return
    graph.add("Identity", x, output=FRAME_OUTPUTS)
    if isinstance(network, ReferenceResNet34):
        pool_over_time_and_frequency(graph, steps, network.std_floor)
        linear(graph, STATISTICS, network.embedding, EMBEDDING)
    else:
        _pool(graph, FRAME_OUTPUTS, steps, network)
        _project(graph, network)


def _pool(graph: GraphBuilder, x: str, steps: Steps, network: ResNet) -> None:
    """As ``ResNet.statistics``."""
    if network.attention is not None:
        x = channels_in_bins(graph, x, network.attention.excite.out_channels)
        weights = attend(graph, x, steps, network.attention)
        graph.add("Flatten", pool_by_attention(graph, x, weights, steps, network.std_floor), output=STATISTICS)
    elif network.pooling == "statistics":
        pool_over_time(graph, x, steps, network.std_floor)
    else:
        both, size = pool_over_time(graph, x, steps, network.std_floor, ""), network.embedding.in_features
        first = 0 if network.pooling == "mean" else size
        graph.add("Slice", both, [first], [first + size], [1], output=STATISTICS)


def _project(graph: GraphBuilder, network: ResNet) -> None:
    """One embedding layer or two."""
    x = linear(graph, STATISTICS, network.embedding, EMBEDDING if network.second is None else "")
    if network.second is not None:
        activation, norm, layer = network.second
        assert isinstance(activation, nn.ReLU)
        linear(graph, batch_norm(graph, graph.add("Relu", x), norm), layer, EMBEDDING)


def add_speechbrain_resnet(graph: GraphBuilder, network: SpeechBrainResNet) -> None:
    """The same of SpeechBrain's ResNet."""
    x = batch_norm(graph, _attentive_statistics(graph, network), network.pooled_norm)
    x = batch_norm(graph, linear(graph, x, network.embedding), network.embedding_norm)
    graph.add("Identity", x, output=EMBEDDING)


def add_simam_resnet(graph: GraphBuilder, network: SimamResNet) -> None:
    """The same of SimAM-ResNet."""
    linear(graph, _attentive_statistics(graph, network), network.embedding, EMBEDDING)


def _attentive_statistics(graph: GraphBuilder, network: AttentiveResNet) -> str:
    x, steps = _trunk(graph, network.trunk)
    channels_in_bins(graph, x, network.squeeze.in_channels, CONVOLVED)
    steps = steps.of(CONVOLVED)
    squeezed = graph.add("Relu", convolve(graph, CONVOLVED, network.squeeze))
    weights = convolve(graph, batch_norm(graph, squeezed, network.squeeze_norm), network.excite)
    return graph.add("Flatten", pool_by_attention(graph, CONVOLVED, weights, steps, network.std_floor))


def add_eres2net(graph: GraphBuilder, network: ERes2Net) -> None:
    """The same of ERes2Net and ERes2NetV2."""
    trunk = network.trunk
    steps = frames_of(graph, FEATURES)
    x = _stem(graph, trunk, steps)
    fused = before = None
    for index, block in enumerate(trunk.blocks):
        steps = steps if block.stride == 1 else steps.halved()
        x = _res2_block(graph, x, None, steps, block)
        if index not in trunk.ends:
            continue
        stage = trunk.ends.index(index) - trunk.first_fused
        if stage == 0:
            fused = x
        elif stage > 0:
            fused = _fuse(graph, x, conv3x3(graph, fused, before, trunk.downsamples[stage - 1]),
                          trunk.fusions[stage - 1])
        before = steps
    _pool_convolved(graph, fused, steps, network)


def add_res2net(graph: GraphBuilder, network: Res2Net) -> None:
    """The same of Res2Net."""
    x, steps = _trunk(graph, network.trunk)
    _pool_convolved(graph, x, steps, network)


def _pool_convolved(graph: GraphBuilder, x: str, steps: Steps, network: ResNet) -> None:
    graph.add("Identity", x, output=CONVOLVED)
    graph.add("Identity", CONVOLVED, output=FRAME_OUTPUTS)
    _pool(graph, FRAME_OUTPUTS, steps.of(FRAME_OUTPUTS), network)
    _project(graph, network)


def _stem(graph: GraphBuilder, trunk: nn.Module, steps: Steps) -> str:
    x = conv3x3(graph, graph.add("Unsqueeze", FEATURES, [1]), steps, trunk.stem)
    return graph.add("Relu", batch_norm(graph, x, trunk.stem_norm))


def _trunk(graph: GraphBuilder, trunk: nn.Module) -> tuple[str, Steps]:
    steps = frames_of(graph, FEATURES)
    x = _stem(graph, trunk, steps)
    halvings = sum(block.stride == 2 for block in trunk.blocks)
    for block in trunk.blocks:
        halvings -= block.stride == 2
        after = steps if block.stride == 1 else steps.halved(NUM_STEPS if halvings == 0 else "")
        x = BLOCKS[type(block)](graph, x, steps, after, block)
        steps = after
    return x, steps


def _bottleneck_block(graph: GraphBuilder, x: str, steps: Steps, after: Steps, block: BottleneckBlock) -> str:
    del after
    shortcut = project_shortcut(graph, x, block, (block.stride, block.stride))
    x = graph.add("Relu", batch_norm(graph, convolve(graph, x, block.conv1), block.norm1))
    x = graph.add("Relu", batch_norm(graph, conv3x3(graph, x, steps, block.conv2), block.norm2))
    x = batch_norm(graph, convolve(graph, x, block.conv3), block.norm3)
    return graph.add("Relu", graph.add("Add", x, shortcut))


def _simam_block(graph: GraphBuilder, x: str, steps: Steps, after: Steps, block: SimamBlock) -> str:
    shortcut = project_shortcut(graph, x, block, (block.stride, block.stride))
    x = graph.add("Relu", batch_norm(graph, conv3x3(graph, x, steps, block.conv1), block.norm1))
    x = batch_norm(graph, conv3x3(graph, x, after, block.conv2), block.norm2)
    count = _count(graph, x, after)
    centred = graph.add("Sub", x, graph.add("Div", masked_sum(graph, x, after, [2, 3]), count))
    squares = graph.add("Mul", centred, centred)
    divisor = graph.add("Max", graph.add("Sub", count, 1.0), 1.0)
    variance = graph.add("Div", masked_sum(graph, squares, after, [2, 3]), divisor)
    scale = graph.add("Mul", graph.add("Add", variance, VARIANCE_FLOOR), 4.0)
    gate = graph.add("Sigmoid", graph.add("Add", graph.add("Div", squares, scale), 0.5))
    return graph.add("Relu", graph.add("Add", graph.add("Mul", x, gate), shortcut))


def _count(graph: GraphBuilder, x: str, steps: Steps) -> str:
    """(batch, 1, 1, 1): the valid values of a channel."""
    bins = graph.add("Cast", graph.size(x, 3), to=1)
    return graph.add("Mul", graph.add("Unsqueeze", graph.add("Cast", steps.lengths, to=1), [1, 2, 3]), bins)


def _pre_activation_block(graph: GraphBuilder, x: str, steps: Steps, after: Steps, block: PreActivationBlock) -> str:
    shortcut = project_shortcut(graph, x, block, (block.stride, block.stride))
    x = conv3x3(graph, graph.add("Relu", batch_norm(graph, x, block.norm1)), steps, block.conv1)
    x = conv3x3(graph, graph.add("Relu", batch_norm(graph, x, block.norm2)), after, block.conv2)
    x = convolve(graph, graph.add("Relu", batch_norm(graph, x, block.norm3)), block.conv3)
    if block.squeeze is not None:
        mean = graph.add("Flatten", graph.add("Div", masked_sum(graph, x, after, [2, 3]), _count(graph, x, after)))
        gate = linear(graph, graph.add("Relu", linear(graph, mean, block.squeeze)), block.excite)
        x = graph.add("Mul", x, graph.add("Unsqueeze", graph.add("Sigmoid", gate), [2, 3]))
    return graph.add("Add", x, shortcut)


def _res2_block(graph: GraphBuilder, x: str, before: Steps | None, steps: Steps, block: Res2Block) -> str:
    del before
    strides = (block.stride, block.stride)
    shortcut = project_shortcut(graph, x, block, strides)
    x = _clipped(graph, batch_norm(graph, convolve(graph, x, block.conv1, strides), block.norm1))
    width, outputs = block.parts[0].in_channels, []
    for index, (part, norm) in enumerate(zip(block.parts, block.norms, strict=True)):
        chunk = graph.add("Slice", x, [index * width], [(index + 1) * width], [1])
        if outputs and block.fusions is None:
            chunk = graph.add("Add", outputs[-1], chunk)
        elif outputs:
            chunk = _fuse(graph, outputs[-1], chunk, block.fusions[index - 1])
        outputs.append(_clipped(graph, batch_norm(graph, conv3x3(graph, chunk, steps, part), norm)))
    if (convolved := width * len(block.parts)) < block.conv3.in_channels:
        outputs.append(graph.add("Slice", x, [convolved], [block.conv3.in_channels], [1]))
    x = batch_norm(graph, convolve(graph, graph.add("Concat", *outputs, axis=1), block.conv3), block.norm3)
    return _clipped(graph, graph.add("Add", x, shortcut))


def _clipped(graph: GraphBuilder, x: str) -> str:
    return graph.add("Clip", x, 0.0, MOST_ACTIVATION)


def _fuse(graph: GraphBuilder, x: str, y: str, fusion: AttentiveFusion) -> str:
    """As ``eres2net.AttentiveFusion``."""
    inner = batch_norm(graph, convolve(graph, graph.add("Concat", x, y, axis=1), fusion.squeeze), fusion.squeeze_norm)
    inner = graph.add("Mul", inner, graph.add("Sigmoid", inner))
    share = graph.add("Tanh", batch_norm(graph, convolve(graph, inner, fusion.excite), fusion.excite_norm))
    return graph.add("Add", graph.add("Mul", x, graph.add("Add", share, 1.0)),
                     graph.add("Mul", y, graph.add("Sub", graph.constant(1.0), share)))


BLOCKS: dict[type, Callable] = {ResidualBlock: residual_block, SimamBlock: _simam_block,
                                BottleneckBlock: _bottleneck_block, PreActivationBlock: _pre_activation_block,
                                Res2Block: _res2_block}
