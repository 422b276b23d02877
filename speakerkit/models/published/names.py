"""What a weight of ours is called in the published checkpoints.

Each scheme is a list of (pattern, replacement) that turn our name into theirs, one after the other.
Going from ours to theirs, every fault can be told in the checkpoint's own words.
"""

import re
from collections.abc import Callable, Sequence

Rule = tuple[str, str | Callable[[re.Match], str]]


def published_name(name: str, scheme: Sequence[Rule]) -> str:
    """Their name of our weight."""
    for pattern, replacement in scheme:
        name = re.sub(pattern, replacement, name)
    return name


def counted_from(first: int, pattern: str) -> Callable[[re.Match], str]:
    """A replacement in which the match's numbers are counted from ``first``."""
    return lambda match: pattern.format(*(int(group) + first for group in match.groups()))


CAMPPLUS: Sequence[Rule] = (
    (r"^head\.stem\.", "head.conv1."),
    (r"^head\.stem_norm\.", "head.bn1."),
    (r"^head\.last\.", "head.conv2."),
    (r"^head\.last_norm\.", "head.bn2."),
    (r"^head\.blocks\.(\d)\.", lambda match: f"head.layer{int(match[1]) // 2 + 1}.{int(match[1]) % 2}."),
    (r"^(head\.layer.*)\.norm", r"\1.bn"),
    (r"^trunk\.stem\.", "xvector.tdnn.linear."),
    (r"^trunk\.stem_norm\.", "xvector.tdnn.nonlinear.batchnorm."),
    (r"^trunk\.blocks\.(\d)\.(\d+)\.", counted_from(1, "xvector.block{}.tdnnd{}.")),
    (r"(tdnnd\d+)\.norm\.", r"\1.nonlinear1.batchnorm."),
    (r"\.inner_norm\.", ".nonlinear2.batchnorm."),
    (r"\.bottleneck\.", ".linear1."),
    (r"\.local\.", ".cam_layer.linear_local."),
    (r"\.squeeze\.", ".cam_layer.linear1."),
    (r"\.gate\.", ".cam_layer.linear2."),
    (r"^trunk\.transits\.(\d)\.norm\.", counted_from(1, "xvector.transit{}.nonlinear.batchnorm.")),
    (r"^trunk\.transits\.(\d)\.", counted_from(1, "xvector.transit{}.")),
    (r"^trunk\.norm\.", "xvector.out_nonlinear.batchnorm."),
    (r"^embedding\.", "xvector.dense.linear."),
    (r"^embedding_norm\.", "xvector.dense.nonlinear.batchnorm."),
)


def in_stages(num_blocks: Sequence[int], pattern: str, first: int = 1) -> Callable[[re.Match], str]:
    """A replacement of a block's place in all of them by its stage (from ``first``) and its place there (from 0)."""
    places = [(stage, index) for stage, count in enumerate(num_blocks, first) for index in range(count)]
    return lambda match: pattern.format(*places[int(match[1])])


def resnet(num_blocks: Sequence[int]) -> Sequence[Rule]:
    """WeSpeaker's and 3D-Speaker's ResNets."""
    return (
        (r"^trunk\.stem\.", "conv1."),
        (r"^trunk\.stem_norm\.", "bn1."),
        (r"^trunk\.blocks\.(\d+)\.", in_stages(num_blocks, "layer{}.{}.")),
        (r"^(layer.*)\.norm", r"\1.bn"),
        (r"^attention\.squeeze\.", "pool.linear1."),
        (r"^attention\.excite\.", "pool.linear2."),
        (r"^embedding\.", "seg_1."),
        (r"^second\.1\.", "seg_bn_1."),
        (r"^second\.2\.", "seg_2."),
    )


def res2net(num_blocks: Sequence[int]) -> Sequence[Rule]:
    """Res2Net of both."""
    return (*resnet(num_blocks), (r"\.parts\.", ".convs."))


def eres2net(num_blocks: Sequence[int], version: int, first_apart: bool = False) -> Sequence[Rule]:
    """ERes2Net (version 1) and ERes2NetV2 (2); WeSpeaker keeps a fused block's first part apart from the others."""
    downsamples, fusions = (("layer{}_downsample.", ("fuse_mode12.", "fuse_mode123.", "fuse_mode1234."))
                            if version == 1 else ("layer3_ds.", ("fuse34.",)))
    return (
        *res2net(num_blocks),
        *(FIRST_PART_APART if first_apart else ()),
        (r"\.fusions\.(\d+)\.", r".fuse_models.\1."),
        (r"^trunk\.downsamples\.(\d)\.", counted_from(1, downsamples)),
        (r"^trunk\.fuse_models\.(\d)\.", lambda match: fusions[int(match[1])]),
        (r"(fuse\w*\.(?:\d+\.)?)squeeze\.", r"\1local_att.0."),
        (r"(fuse\w*\.(?:\d+\.)?)squeeze_norm\.", r"\1local_att.1."),
        (r"(fuse\w*\.(?:\d+\.)?)excite\.", r"\1local_att.3."),
        (r"(fuse\w*\.(?:\d+\.)?)excite_norm\.", r"\1local_att.4."),
    )


FIRST_PART_APART: Sequence[Rule] = (
    (r"^(layer[34]\.\d+)\.convs\.0\.", r"\1.conv2_1."),
    (r"^(layer[34]\.\d+)\.bns\.0\.", r"\1.bn2_1."),
    (r"^(layer[34]\.\d+)\.(convs|bns)\.(\d+)\.",
     lambda match: f"{match[1]}.{match[2]}.{int(match[3]) - 1}."),
)


def reference(num_blocks: Sequence[int]) -> Sequence[Rule]:
    """FunASR's ResNet34 with its dense decoder."""
    return (
        (r"^trunk\.stem\.", "encoder.pre_conv."),
        (r"^trunk\.stem_norm\.", "encoder.pre_conv_bn."),
        (r"^trunk\.blocks\.(\d+)\.", in_stages(num_blocks, "encoder.block_{}.layer_{}.", first=0)),
        (r"\.norm(\d)\.", r".bn\1."),
        (r"\.shortcut\.0\.", ".conv_sc."),
        (r"\.shortcut\.1\.", ".bn_sc."),
        (r"^dense\.", "encoder.resnet0_dense."),
        (r"^dense_norm\.", "encoder.resnet0_bn."),
        (r"^embedding\.", "decoder.resnet1_dense."),
        (r"^embedding_norm\.", "decoder.resnet1_bn."),
        (r"^second\.", "decoder.resnet2_dense."),
        (r"^second_norm\.", "decoder.resnet2_bn."),
    )


WESPEAKER_ECAPA: Sequence[Rule] = (
    (r"^stem\.", "layer1."),
    (r"^blocks\.(\d+)\.", counted_from(2, "layer{}.se_res2block.")),
    (r"\.before\.", ".0."),
    (r"\.parts\.(\d)\.conv\.", r".1.convs.\1."),
    (r"\.parts\.(\d)\.norm\.", r".1.bns.\1."),
    (r"\.after\.", ".2."),
    (r"res2block\.squeeze\.", "res2block.3.linear1."),
    (r"res2block\.excite\.", "res2block.3.linear2."),
    (r"\.norm\.", ".bn."),
    (r"^aggregate\.", "conv."),
    (r"^attention\.squeeze\.", "pool.linear1."),
    (r"^attention\.excite\.", "pool.linear2."),
    (r"^pooled_norm\.", "bn."),
    (r"^embedding_norm\.", "bn2."),
    (r"^embedding\.", "linear."),
)

SPEECHBRAIN_ECAPA: Sequence[Rule] = (
    (r"^blocks\.(\d+)\.", counted_from(1, "blocks.{}.")),
    (r"^stem\.", "blocks.0."),
    (r"\.before\.", ".tdnn1."),
    (r"\.after\.", ".tdnn2."),
    (r"\.parts\.", ".res2net_block.blocks."),
    (r"^(blocks.*)\.conv\.", r"\1.conv.conv."),
    (r"^(blocks.*)\.norm\.", r"\1.norm.norm."),
    (r"^(blocks\.\d+)\.squeeze\.", r"\1.se_block.conv1.conv."),
    (r"^(blocks\.\d+)\.excite\.", r"\1.se_block.conv2.conv."),
    (r"^aggregate\.", "mfa.conv.conv."),
    (r"^aggregate_norm\.", "mfa.norm.norm."),
    (r"^attention\.squeeze\.", "asp.tdnn.conv.conv."),
    (r"^attention\.norm\.", "asp.tdnn.norm.norm."),
    (r"^attention\.excite\.", "asp.conv.conv."),
    (r"^pooled_norm\.", "asp_bn.norm."),
    (r"^embedding\.", "fc.conv."),
)


def simam_resnet(num_blocks: Sequence[int]) -> Sequence[Rule]:
    """WeSpeaker's SimAM-ResNets."""
    return (
        (r"^trunk\.stem\.", "front.conv1."),
        (r"^trunk\.stem_norm\.", "front.bn1."),
        (r"^trunk\.blocks\.(\d+)\.", in_stages(num_blocks, "front.layer{}.{}.")),
        (r"^(front\.layer.*)\.norm", r"\1.bn"),
        (r"\.shortcut\.", ".downsample."),
        (r"^squeeze\.", "pooling.attention.0."),
        (r"^squeeze_norm\.", "pooling.attention.2."),
        (r"^excite\.", "pooling.attention.3."),
        (r"^embedding\.", "bottleneck."),
    )


def speechbrain_resnet(num_blocks: Sequence[int]) -> Sequence[Rule]:
    """SpeechBrain's ResNet."""
    return (
        (r"^trunk\.stem\.", "conv1."),
        (r"^trunk\.stem_norm\.", "bn1."),
        (r"^trunk\.blocks\.(\d+)\.", in_stages(num_blocks, "layer{}.{}.")),
        (r"^(layer.*)\.norm", r"\1.bn"),
        (r"^(layer.*)\.squeeze\.", r"\1.se.fc.0."),
        (r"^(layer.*)\.excite\.", r"\1.se.fc.2."),
        (r"\.shortcut\.", ".downsample."),
        (r"^squeeze\.", "attention.0."),
        (r"^squeeze_norm\.", "attention.2."),
        (r"^excite\.", "attention.3."),
        (r"^pooled_norm\.", "norm_stats."),
        (r"^embedding\.", "fc_embed."),
        (r"^embedding_norm\.", "norm_embed."),
    )
