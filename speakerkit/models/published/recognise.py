"""Which system and network a checkpoint is from: its keys and shapes say most, the caller the rest."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from speakerkit.config import ARCHITECTURES, FbankConfig, ModelConfig
from speakerkit.errors import ConfigError, DataError
from speakerkit.models.eres2net import SHAPES
from speakerkit.models.published import names
from speakerkit.models.published.front_ends import FRONT_ENDS, FrontEnd

Tensors = dict[str, torch.Tensor]
# Prefixes of keys that belong to training only, where they lie beside the network's.
CLASSIFIERS = ("projection.", "decoder.output_dense.", "classifier.")


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint becomes a model of ours."""

    source: str  # whose it is: reference, wespeaker, 3dspeaker, speechbrain
    kind: str  # the network in words
    model: ModelConfig
    fbank: FbankConfig
    scheme: Sequence[names.Rule]
    frequency_first: bool  # its images are (frequency, time)
    left_out: tuple[str, ...]  # keys of the classification layer
    note: str = ""  # what was assumed, to be told


@dataclass(frozen=True)
class Kind:
    """A network, by keys that only it has."""

    name: str
    signs: tuple[str, ...]
    std_floors: dict[str, float]  # source -> the variance's floor; the first source is the likeliest
    describe: Callable[[Tensors], tuple[dict, Sequence[names.Rule]]]  # options of [model], our names to theirs
    frequency_first: bool = True


def _size(tensors: Tensors, key: str, axis: int = 0) -> int:
    """A tensor's length along an axis; 0 where it has none, which no network has."""
    return tensors[key].shape[axis] if key in tensors and tensors[key].dim() > axis else 0


def _blocks(tensors: Tensors, pattern: str) -> tuple[int, ...]:
    """Blocks a stage, from keys such as 'layer2.3.'; stages in order."""
    stages: dict[int, set] = {}
    for key in tensors:
        if (found := re.match(pattern, key)) is not None:
            stages.setdefault(int(found[1]), set()).add(int(found[2]))
    return tuple(len(stages[stage]) for stage in sorted(stages))


def _architecture(blocks: tuple[int, ...], family: Sequence[str]) -> str:
    """The architecture with so many blocks, or the family's first with blocks of its own."""
    return next((name for name in family if ARCHITECTURES[name][1] == blocks), family[0])


def _resnet(tensors: Tensors) -> tuple[dict, Sequence[names.Rule]]:
    blocks = _blocks(tensors, r"layer(\d)\.(\d{1,3})\.")
    bottleneck = "layer1.0.conv3.weight" in tensors
    family = ("resnet50", "resnet101", "resnet152", "resnet221", "resnet293") if bottleneck else (
        "resnet34", "resnet18")
    options = {"architecture": _architecture(blocks, family), "num_blocks": blocks,
               "base_channels": _size(tensors, "conv1.weight")}
    return options | _embedding_layers(tensors), names.resnet(blocks)


def _eres2net(tensors: Tensors) -> tuple[dict, Sequence[names.Rule]]:
    base, blocks = _size(tensors, "conv1.weight"), _blocks(tensors, r"layer(\d)\.(\d{1,3})\.")
    version = 2 if "layer3_ds.weight" in tensors else 1
    parts = len({key for key in tensors if re.fullmatch(r"layer1\.0\.convs\.\d+\.weight", key)})
    expansion = _size(tensors, "layer1.0.conv3.weight") // max(base, 1)
    architecture = next(
        (name for name, shape in SHAPES.items()
         if (shape.parts, shape.expansion, len(shape.fused_stages) == 3) == (parts, expansion, version == 1)), None)
    if architecture is None:
        raise ValueError(f"its blocks have {parts} parts and {expansion} times the width, as no published ERes2Net")
    options = {"architecture": architecture, "num_blocks": blocks, "base_channels": base} | _embedding_layers(tensors)
    return options, names.eres2net(blocks, version, first_apart="layer3.0.conv2_1.weight" in tensors)


def _res2net(tensors: Tensors) -> tuple[dict, Sequence[names.Rule]]:
    blocks = _blocks(tensors, r"layer(\d)\.(\d{1,3})\.")
    options = {"architecture": "res2net", "num_blocks": blocks, "base_channels": _size(tensors, "conv1.weight")}
    return options | _embedding_layers(tensors), names.res2net(blocks)


def _embedding_layers(tensors: Tensors) -> dict:
    if any(key.startswith(("pool.n_query.", "pool.heads_att_trans.")) for key in tensors):
        raise ValueError("it pools by several heads of attention (MHASTP, MQMHASTP); want TSTP, ASTP, TAP or TSDP")
    pooling = "attention" if "pool.linear1.weight" in tensors else "statistics"
    return {"embedding_dim": _size(tensors, "seg_1.weight"), "two_embedding_layers": "seg_2.weight" in tensors,
            "pooling": pooling}


def _pooling(tensors: Tensors, options: dict, front_end: FrontEnd, path: str | os.PathLike) -> dict:
    """What its configuration says of pooling: weights don't tell a mean alone from a deviation alone."""
    if "pooling" not in options:
        if front_end.pooling in ("mean", "deviation"):
            raise ValueError(f"its configuration says that it pools the {front_end.pooling} alone")
        return {}
    if front_end.pooling:
        return {"pooling": front_end.pooling}
    whole = 2 * 8 * options["base_channels"] * -(-front_end.fbank.num_mel_bins // 8)
    if "layer1.0.conv3.weight" not in tensors and 2 * _size(tensors, "seg_1.weight", 1) == whole:
        raise ConfigError(f"{os.fspath(path)}: pools the mean alone or the deviation alone (TAP, TSDP), and its keys "
                          "don't tell which; want its configuration with --config or beside it")
    return {}


def _reference(tensors: Tensors) -> tuple[dict, Sequence[names.Rule]]:
    blocks = _blocks(tensors, r"encoder\.block_(\d)\.layer_(\d{1,3})\.")
    over_frequencies = tensors["encoder.resnet0_dense.weight"].dim() == 3
    options = {"architecture": "resnet34_sp_l2reg" if over_frequencies else "resnet34_reference",
               "num_blocks": blocks, "mean_norm": False,
               "base_channels": _size(tensors, "encoder.pre_conv.weight"),
               "embedding_dim": _size(tensors, "decoder.resnet1_dense.weight")}
    return options, names.reference(blocks)


def _campplus(tensors: Tensors) -> tuple[dict, Sequence[names.Rule]]:
    blocks = _blocks(tensors, r"xvector\.block(\d)\.tdnnd(\d{1,3})\.")
    options = {"architecture": "campplus", "num_blocks": blocks, "base_channels": _size(tensors, "head.conv1.weight"),
               "embedding_dim": _size(tensors, "xvector.dense.linear.weight")}
    return options, names.CAMPPLUS


def _wespeaker_ecapa(tensors: Tensors) -> tuple[dict, Sequence[names.Rule]]:
    pooled = _size(tensors, "conv.weight")
    options = {
        "architecture": "ecapa", "base_channels": _size(tensors, "layer1.conv.weight"), "pooled_channels": pooled,
        "num_blocks": (len({key.split(".")[0] for key in tensors if ".se_res2block." in key}),),
        "embedding_dim": _size(tensors, "linear.weight"),
        "global_context": _size(tensors, "pool.linear1.weight", 1) != pooled,
        "embedding_norm": "bn2.weight" in tensors,
    }
    return options, names.WESPEAKER_ECAPA


def _speechbrain_ecapa(tensors: Tensors) -> tuple[dict, Sequence[names.Rule]]:
    pooled = _size(tensors, "mfa.conv.conv.weight")
    options = {
        "architecture": "ecapa_speechbrain", "base_channels": _size(tensors, "blocks.0.conv.conv.weight"),
        "num_blocks": (len({key.split(".")[1] for key in tensors if ".se_block." in key}),),
        "pooled_channels": pooled, "embedding_dim": _size(tensors, "fc.conv.weight"),
        "global_context": _size(tensors, "asp.tdnn.conv.conv.weight", 1) != pooled,
    }
    return options, names.SPEECHBRAIN_ECAPA


def _speechbrain_resnet(tensors: Tensors) -> tuple[dict, Sequence[names.Rule]]:
    blocks = _blocks(tensors, r"layer(\d)\.(\d{1,3})\.")
    options = {"architecture": "resnet_speechbrain", "num_blocks": blocks,
               "base_channels": _size(tensors, "conv1.weight"), "embedding_dim": _size(tensors, "fc_embed.weight")}
    return options, names.speechbrain_resnet(blocks)


def _simam_resnet(tensors: Tensors) -> tuple[dict, Sequence[names.Rule]]:
    blocks = _blocks(tensors, r"front\.layer(\d)\.(\d{1,3})\.")
    options = {"architecture": _architecture(blocks, ("simam_resnet34", "simam_resnet100")), "num_blocks": blocks,
               "base_channels": _size(tensors, "front.conv1.weight"),
               "embedding_dim": _size(tensors, "bottleneck.weight")}
    return options, names.simam_resnet(blocks)


KINDS = (
    Kind("reference ResNet34", ("encoder.block_0.layer_0.conv1.weight", "encoder.resnet0_dense.weight"),
         {"reference": 1e-12}, _reference, False),
    Kind("CAM++", ("xvector.block1.tdnnd1.linear1.weight",), {"3dspeaker": 0.0, "wespeaker": 1e-7}, _campplus),
    Kind("ERes2NetV2", ("layer3_ds.weight", "layer1.0.convs.0.weight"), {"3dspeaker": 1e-8}, _eres2net),
    Kind("ERes2Net", ("layer1_downsample.weight", "layer3.0.conv2_1.weight"), {"wespeaker": 1e-7}, _eres2net),
    Kind("ERes2Net", ("layer1_downsample.weight", "layer1.0.convs.0.weight"), {"3dspeaker": 1e-8}, _eres2net),
    Kind("Res2Net", ("seg_1.weight", "layer1.0.convs.0.weight", "layer1.0.conv3.weight"),
         {"wespeaker": 1e-7, "3dspeaker": 1e-8}, _res2net),
    Kind("WeSpeaker ECAPA-TDNN", ("layer2.se_res2block.0.conv.weight",), {"wespeaker": 1e-7}, _wespeaker_ecapa),
    Kind("ECAPA-TDNN", ("blocks.0.conv.conv.weight", "asp_bn.norm.weight"), {"speechbrain": 1e-12, "3dspeaker": 1e-12},
         _speechbrain_ecapa),
    Kind("SpeechBrain ResNet", ("norm_stats.weight", "fc_embed.weight"), {"speechbrain": 1e-5}, _speechbrain_resnet,
         False),
    Kind("SimAM-ResNet", ("front.layer1.0.conv1.weight", "pooling.attention.0.weight"), {"wespeaker": 1e-5},
         _simam_resnet),
    Kind("ResNet", ("seg_1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.weight"),
         {"wespeaker": 1e-7, "3dspeaker": 1e-8}, _resnet),
)


def recognise(tensors: Tensors, path: str | os.PathLike, source: str | None = None,
              front_end: FrontEnd | None = None) -> Recipe:
    """The recipe for a checkpoint.

    Args:
        tensors: what ``read_checkpoint`` gave.
        path: the file, for messages.
        source: whose checkpoint it is; None takes what its keys say.
        front_end: from samples to features, where a configuration tells it; else the source's own.

    Raises:
        DataError: a network we don't know, not one of that source, or with impossible sizes.
        ConfigError: its keys leave open whose it is, and so which front end it needs.
    """
    kind = next((k for k in KINDS if all(sign in tensors for sign in k.signs)), None)
    if kind is None:
        raise DataError(path, f"holds no network we know (its keys begin {_shown(tensors)}); "
                              f"want one of {', '.join(dict.fromkeys(k.name for k in KINDS))}")
    left_out = tuple(key for key in tensors if key.startswith(CLASSIFIERS))
    note = ""
    if source is None:
        source = _guess(kind, tensors, left_out, path)
        note = f"taken as {source}'s; --from names another" if len(kind.std_floors) > 1 else ""
    if source not in kind.std_floors:
        raise DataError(path, f"is a {kind.name}, which isn't {source}'s; want --from {' or '.join(kind.std_floors)}")
    try:
        options, scheme = kind.describe(tensors)
        if front_end is None and options["architecture"] == "resnet34_sp_l2reg":
            raise ConfigError(f"{os.fspath(path)}: the front end of the {kind.name}'s sibling isn't published; "
                              "want its configuration (sv.yaml) with --config or beside it")
        front_end = front_end or FRONT_ENDS[source]
        options |= _pooling(tensors, options, front_end, path)
        model = ModelConfig(**({"mean_norm": front_end.mean_norm} | options), std_floor=kind.std_floors[source])
    except ValueError as error:
        raise DataError(path, f"is no {kind.name} we know: {error}") from None
    return Recipe(source, kind.name, model, front_end.fbank, scheme, kind.frequency_first, left_out, note)


def _guess(kind: Kind, tensors: Tensors, left_out: tuple[str, ...], path: str | os.PathLike) -> str:
    """Whose it is: WeSpeaker keeps its classifier in the file, 3D-Speaker's ResNet has two embedding layers."""
    if "wespeaker" in kind.std_floors and any(key.startswith("projection.") for key in left_out):
        return "wespeaker"
    if kind.name == "Res2Net" or (kind.name == "ResNet" and "seg_2.weight" in tensors):
        what = "a Res2Net" if kind.name == "Res2Net" else "a ResNet with two embedding layers"
        raise ConfigError(f"{os.fspath(path)}: {what} is WeSpeaker's or 3D-Speaker's, and its keys don't tell which; "
                          "want --from wespeaker or --from 3dspeaker, or its configuration with --config")
    return next(iter(kind.std_floors))


def _shown(tensors: Tensors) -> str:
    return str([key[:60] for key in sorted(tensors)[:3]])
