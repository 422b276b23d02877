"""A published checkpoint's tensors in our network, every key and shape checked."""

import os

import torch
from torch import nn

from speakerkit.errors import DataError
from speakerkit.models.model_file import load_tensors, wanted_tensors
from speakerkit.models.networks import make_network, outline_network
from speakerkit.models.published.names import published_name
from speakerkit.models.published.recognise import Recipe, Tensors

MOST_TOLD = 5


def convert(tensors: Tensors, recipe: Recipe, path: str | os.PathLike) -> nn.Module:
    """Our network, in evaluation mode, with the checkpoint's weights in float32.

    Raises:
        DataError: a missing or unexpected key, another shape, a value that isn't finite; told in the
            checkpoint's own names.
    """
    outline = outline_network(recipe.model, recipe.fbank.num_columns)  # a checkpoint may claim a network of any size
    wanted = wanted_tensors(outline)
    theirs = {name: published_name(name, recipe.scheme) for name in wanted}
    missing = [key for key in theirs.values() if key not in tensors]
    unexpected = sorted(tensors.keys() - set(theirs.values()) - set(recipe.left_out))
    if missing or unexpected:
        raise DataError(path, f"doesn't fit a {recipe.kind}: {len(missing)} keys missing {missing[:MOST_TOLD]}, "
                              f"{len(unexpected)} unexpected {unexpected[:MOST_TOLD]}")
    converted = {
        name: _as_ours(tensors[key], wanted[name], key, path, recipe.frequency_first) for name, key in theirs.items()
    }
    network = make_network(recipe.model, recipe.fbank.num_columns).eval()
    load_tensors(network, converted, path)
    return network


def _as_ours(
    tensor: torch.Tensor, wanted: torch.Tensor, key: str, path: str | os.PathLike, frequency_first: bool
) -> torch.Tensor:
    """A weight as our network holds it: images as (time, frequency), 1x1 convolutions over one step as layers or,
    where their channels are frequency * channels + channel, as kernels over all frequencies."""
    shown = list(tensor.shape)
    if tensor.dim() == 4 and frequency_first:
        tensor = tensor.transpose(2, 3)
    if tensor.dim() == 3 and wanted.dim() == 2 and tensor.shape[2] == 1:
        tensor = tensor.squeeze(2)
    if tensor.dim() == 3 and wanted.dim() == 4 and shown == [wanted.shape[0], wanted[0].numel(), 1]:
        tensor = tensor.reshape(wanted.shape[0], wanted.shape[3], wanted.shape[1]).transpose(1, 2).unsqueeze(2)
    if tensor.shape != wanted.shape:
        raise DataError(path, f"'{key}' has shape {shown}; want {list(wanted.shape)}")
    tensor = tensor.float().contiguous()
    if not torch.isfinite(tensor).all():
        raise DataError(path, f"'{key}' holds values that aren't finite")
    if key.endswith("running_var") and tensor.min() < 0:
        raise DataError(path, f"'{key}' holds negative variances")
    return tensor
