"""ECAPA-TDNN and CAM++ as ONNX graphs, node by node: the same arithmetic as ``models``, padding mask and all."""

from dataclasses import dataclass

from speakerkit.features.graph_builder import GraphBuilder
from speakerkit.features.graph_names import CONVOLVED, EMBEDDING, FEATURES, NUM_FRAMES, STATISTICS
from speakerkit.inference.graph_layers import (
    Steps,
    attend,
    batch_norm,
    channels_in_bins,
    conv3x3,
    convolve,
    frames_of,
    linear,
    mean_over_time,
    pool_by_attention,
    pool_over_time,
    residual_block,
)
from speakerkit.models.campplus import SEGMENT_STEPS, CamPlusPlus, Head, MaskedLayer
from speakerkit.models.ecapa import ConvReluNorm, Ecapa, SqueezeExciteRes2Block
from speakerkit.models.time_convolution import ReflectConv, TimeConv


def add_ecapa(graph: GraphBuilder, network: Ecapa) -> None:
    """From ``features`` and ``num_frames`` to ``embedding``; batch norm is folded where it can be."""
    steps = frames_of(graph, FEATURES)
    x = _conv_relu_norm(graph, graph.add("Transpose", FEATURES, perm=[0, 2, 1]), steps, network.stem)
    outputs = []
    for block in network.blocks:
        x = _res2_block(graph, x, steps, block)
        outputs.append(x)
    graph.add("Concat", *outputs, axis=1, output=CONVOLVED)
    steps = steps.of(CONVOLVED)
    x = graph.add("Relu", convolve(graph, CONVOLVED, network.aggregate))
    if network.aggregate_norm is not None:
        x = batch_norm(graph, x, network.aggregate_norm)
    pooled = pool_by_attention(graph, x, attend(graph, x, steps, network.attention), steps, network.std_floor)
    x = linear(graph, batch_norm(graph, graph.add("Flatten", pooled), network.pooled_norm), network.embedding)
    if network.embedding_norm is not None:
        x = batch_norm(graph, x, network.embedding_norm)
    graph.add("Identity", x, output=EMBEDDING)


def _conv_relu_norm(graph: GraphBuilder, x: str, steps: Steps, layer: ConvReluNorm) -> str:
    return batch_norm(graph, graph.add("Relu", _conv_over_time(graph, x, steps, layer.conv)), layer.norm)


def _conv_over_time(graph: GraphBuilder, x: str, steps: Steps, convolution: TimeConv | ReflectConv) -> str:
    """As ``time_convolution`` has them: zeros or the mirror image beyond an utterance's ends."""
    if convolution.kernel_size[0] == 1:
        return convolve(graph, x, convolution, convolution.stride)
    if isinstance(convolution, ReflectConv):
        return convolve(graph, _mirrored(graph, x, steps, convolution), convolution)
    reach = convolution.padding[0]
    return convolve(graph, graph.add("Mul", x, steps.mask_in_time), convolution, convolution.stride,
                    pads=[reach, reach])


def _mirrored(graph: GraphBuilder, x: str, steps: Steps, convolution: ReflectConv) -> str:
    """x with ``reach`` further steps at either side; only those are fetched one by one, for that is slow."""
    reach, channels = convolution.reach, convolution.in_channels
    last = graph.add("Unsqueeze", graph.add("Sub", steps.lengths, 1), [1])  # (batch, 1)
    period = graph.add("Max", graph.add("Mul", last, 2), 1)
    after = graph.add("Add", last, list(range(1, reach + 1)))  # (batch, reach)

    def fetch(places: object) -> str:
        at = graph.add("Mod", places, period)
        at = graph.add("Max", graph.add("Min", at, graph.add("Sub", graph.add("Mul", last, 2), at)), 0)
        return graph.add("GatherElements", x, _for_channels(graph, at, channels), axis=2)

    left, right = fetch(list(range(-reach, 0))), fetch(after)
    wide = graph.add("Pad", graph.add("Concat", left, x, axis=2), [0, 0, 0, 0, 0, reach], 0.0)
    beyond = _for_channels(graph, graph.add("Add", after, reach), channels)
    return graph.add("ScatterElements", wide, beyond, right, axis=2)


def _for_channels(graph: GraphBuilder, places: str, channels: int) -> str:
    """(batch, n) to (batch, channels, n)."""
    return graph.add("Expand", graph.add("Unsqueeze", places, [1]), [1, channels, 1])


def _res2_block(graph: GraphBuilder, x: str, steps: Steps, block: SqueezeExciteRes2Block) -> str:
    before = _conv_relu_norm(graph, x, steps, block.before)
    width, count = block.parts[0].conv.in_channels, len(block.parts) + 1
    chunks = [graph.add("Slice", before, [i * width], [(i + 1) * width], [1]) for i in range(count)]
    passing, outputs = chunks.pop(0 if block.first_passes else -1), []
    for chunk, part in zip(chunks, block.parts, strict=True):
        outputs.append(_conv_relu_norm(graph, graph.add("Add", chunk, outputs[-1]) if outputs else chunk, steps, part))
    outputs.insert(0 if block.first_passes else len(outputs), passing)
    y = _conv_relu_norm(graph, graph.add("Concat", *outputs, axis=1), steps, block.after)
    mean = graph.add("Flatten", mean_over_time(graph, y, steps))
    gate = graph.add("Sigmoid", linear(graph, graph.add("Relu", linear(graph, mean, block.squeeze)), block.excite))
    return graph.add("Add", x, graph.add("Mul", y, graph.add("Unsqueeze", gate, [2])))


@dataclass(frozen=True)
class _Segments:
    """Stretches of SEGMENT_STEPS steps: the valid steps in each, and the stretch of each step."""

    missing: str  # (1,) steps up to a whole number of stretches
    counts: str  # (batch, 1, num_segments)
    of_step: str  # (num_steps,)


def add_campplus(graph: GraphBuilder, network: CamPlusPlus) -> None:
    """The same of CAM++."""
    trunk = network.trunk
    channels_in_bins(graph, _head(graph, network.head), trunk.stem.in_channels, CONVOLVED)
    steps = Steps(graph, NUM_FRAMES, graph.size(CONVOLVED, 2))
    x = _conv_over_time(graph, CONVOLVED, steps, trunk.stem)
    x = graph.add("Relu", batch_norm(graph, x, trunk.stem_norm))
    steps = steps.halved()
    segments = _cut_segments(graph, steps)
    for block, transit in zip(trunk.blocks, trunk.transits, strict=True):
        for layer in block:
            x = graph.add("Concat", x, _masked_layer(graph, x, steps, segments, layer), axis=1)
        x = convolve(graph, graph.add("Relu", batch_norm(graph, x, transit.norm)), transit.linear)
    x = graph.add("Relu", batch_norm(graph, x, trunk.norm))
    pool_over_time(graph, graph.add("Unsqueeze", x, [3]), steps, network.std_floor)
    x = linear(graph, STATISTICS, network.embedding)
    graph.add("Identity", batch_norm(graph, x, network.embedding_norm), output=EMBEDDING)


def _head(graph: GraphBuilder, head: Head) -> str:
    steps = frames_of(graph, FEATURES)
    x = conv3x3(graph, graph.add("Unsqueeze", FEATURES, [1]), steps, head.stem)
    x = graph.add("Relu", batch_norm(graph, x, head.stem_norm))
    for block in head.blocks:
        x = residual_block(graph, x, steps, steps, block)
    return graph.add("Relu", batch_norm(graph, conv3x3(graph, x, steps, head.last), head.last_norm))


def _cut_segments(graph: GraphBuilder, steps: Steps) -> _Segments:
    missing = graph.add("Mod", graph.add("Neg", steps.num_steps), SEGMENT_STEPS)
    padded = graph.add("Add", steps.num_steps, missing)
    starts = graph.add("Range", 0, padded, SEGMENT_STEPS)
    counts = graph.add("Sub", graph.add("Unsqueeze", steps.lengths, [1]), starts)
    counts = graph.add("Min", graph.add("Max", counts, 1), SEGMENT_STEPS)
    of_step = graph.add("Div", graph.add("Range", 0, steps.num_steps, 1), SEGMENT_STEPS)
    return _Segments(graph.add("Unsqueeze", missing, [0]),
                     graph.add("Unsqueeze", graph.add("Cast", counts, to=1), [1]), of_step)


def _masked_layer(graph: GraphBuilder, x: str, steps: Steps, segments: _Segments, layer: MaskedLayer) -> str:
    """As ``campplus.MaskedLayer``; a mask is one for all steps of a stretch, so it is made once for each."""
    x = convolve(graph, graph.add("Relu", batch_norm(graph, x, layer.norm)), layer.bottleneck)
    x = graph.add("Mul", graph.add("Relu", batch_norm(graph, x, layer.inner_norm)), steps.mask_in_time)
    padded = graph.add("Pad", x, graph.add("Concat", [0, 0, 0, 0, 0], segments.missing, axis=0), 0.0)
    stretches = graph.add("Reshape", padded, [0, layer.squeeze.in_channels, -1, SEGMENT_STEPS])
    sums = graph.add("ReduceSum", stretches, [3], keepdims=0)
    mean = graph.add("Div", graph.add("ReduceSum", sums, [2], keepdims=1), steps.count_in_time)
    context = graph.add("Add", graph.add("Div", sums, segments.counts), mean)
    gate = convolve(graph, graph.add("Relu", convolve(graph, context, layer.squeeze)), layer.gate)
    mask = graph.add("Gather", graph.add("Sigmoid", gate), segments.of_step, axis=2)
    reach = layer.local.padding[0]
    return graph.add("Mul", convolve(graph, x, layer.local, pads=[reach, reach]), mask)
