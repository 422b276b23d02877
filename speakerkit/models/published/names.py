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
