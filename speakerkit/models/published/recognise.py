"""Which system and network a checkpoint is from: its keys and shapes say most, the caller the rest."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import DataError
from speakerkit.models.published import names
from speakerkit.models.published.front_ends import FRONT_ENDS

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint becomes a model of ours."""

    source: str  # whose it is: reference, wespeaker, 3dspeaker, speechbrain
    kind: str  # the network in words
    model: ModelConfig
    fbank: FbankConfig
    scheme: Sequence[names.Rule]
    left_out: tuple[str, ...]  # keys of the classification layer
    note: str = ""  # what was assumed, to be told


@dataclass(frozen=True)
class Kind:
    """A network, by the key that only it has."""

    name: str
    sign: str
    sources: tuple[str, ...]  # the first is the one assumed where nothing else tells
    describe: Callable[[Tensors, str], tuple[ModelConfig, Sequence[names.Rule]]]


def _rows(tensors: Tensors, key: str) -> int:
    return tensors[key].shape[0] if key in tensors and tensors[key].dim() else 0


def _campplus(tensors: Tensors, source: str) -> tuple[ModelConfig, Sequence[names.Rule]]:
    model = ModelConfig(
        architecture="campplus",
        embedding_dim=_rows(tensors, "xvector.dense.linear.weight"),
        std_floor={"3dspeaker": 0.0, "wespeaker": 1e-7}[source],
    )
    return model, names.CAMPPLUS


KINDS = (Kind("CAM++", "xvector.block1.tdnnd1.linear1.weight", ("3dspeaker", "wespeaker"), _campplus),)
CLASSIFIERS = ("projection.",)  # prefixes of keys that belong to training only; WeSpeaker keeps them in the file


def recognise(tensors: Tensors, path: str | os.PathLike, source: str | None = None) -> Recipe:
    """The recipe for a checkpoint.

    Args:
        tensors: what ``read_checkpoint`` gave.
        path: the file, for messages.
        source: whose checkpoint it is; None takes what its keys say.

    Raises:
        DataError: a network we don't know, or not one of that source.
    """
    kind = next((k for k in KINDS if k.sign in tensors), None)
    if kind is None:
        raise DataError(path, f"holds no network we know (its keys begin {sorted(tensors)[:3]}); "
                              f"want one of {', '.join(k.name for k in KINDS)}")
    left_out = tuple(key for key in tensors if key.startswith(CLASSIFIERS))
    note = ""
    if source is None:
        source = "wespeaker" if left_out else kind.sources[0]
        note = f"taken as {source}'s; --from names another"
    if source not in kind.sources:
        raise DataError(path, f"is a {kind.name}, which {source} doesn't publish; "
                              f"want --from {' or '.join(kind.sources)}")
    model, scheme = kind.describe(tensors, source)
    return Recipe(source, kind.name, model, FRONT_ENDS[source], scheme, left_out, note)
