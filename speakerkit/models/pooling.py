"""Statistics pooling: frames -> one vector of means and standard deviations."""

import torch

from speakerkit.models.blocks import at_least_float32, time_mask

SMALLEST_VARIANCE = 1e-30


def pool_over_time(x: torch.Tensor, lengths: torch.Tensor | None, std_floor: float) -> torch.Tensor:
    """Mean and standard deviation over time, for each channel and frequency ("TSTP").

    Args:
        x: (batch, channels, time, freq).
        lengths: (batch,) valid time steps, or None.
        std_floor: added to the variance under the root, as WeSpeaker (1e-7) and 3D-Speaker (1e-8;
            0 in CAM++) do.

    Returns:
        (batch, 2 * channels * freq) float32: all means, then all deviations, index channel * freq + f.

    The variance is unbiased (n - 1). Of a single step it is taken as 0, where the peers give NaN.
    """
    x = at_least_float32(x)
    if lengths is None:
        steps = torch.tensor(x.shape[2], device=x.device)
        mean = x.mean(dim=2)
        squares = (x - mean.unsqueeze(2)).square().sum(dim=2)
    else:
        mask = time_mask(lengths, x.shape[2])
        steps = lengths[:, None, None]
        mean = torch.where(mask, x, 0).sum(dim=2) / steps
        squares = torch.where(mask, x - mean.unsqueeze(2), 0).square().sum(dim=2)
    # Where nothing is added, a constant channel's root keeps a finite slope.
    std = (squares / (steps - 1).clamp(min=1) + std_floor).clamp(min=SMALLEST_VARIANCE).sqrt()
    return torch.cat([mean.flatten(1), std.flatten(1)], dim=1)


def pool_over_time_and_frequency(x: torch.Tensor, lengths: torch.Tensor | None, std_floor: float) -> torch.Tensor:
    """Mean and standard deviation over time and frequency together, for each channel (the reference system).

    Args:
        x: (batch, channels, time, freq).
        lengths: (batch,) valid time steps, or None.
        std_floor: the smallest variance; the reference has 1e-12, so the smallest deviation is 1e-6.

    Returns:
        (batch, 2 * channels) float32; the variance is that of the population (n).
    """
    x = at_least_float32(x)
    if lengths is None:
        mean = x.mean(dim=(2, 3))
        variance = (x - mean[:, :, None, None]).square().mean(dim=(2, 3))
    else:
        mask = time_mask(lengths, x.shape[2])
        count = (lengths * x.shape[3])[:, None]
        mean = torch.where(mask, x, 0).sum(dim=(2, 3)) / count
        variance = torch.where(mask, x - mean[:, :, None, None], 0).square().sum(dim=(2, 3)) / count
    return torch.cat([mean, variance.clamp(min=std_floor).sqrt()], dim=1)


def pool_by_attention(
    x: torch.Tensor, weights: torch.Tensor, lengths: torch.Tensor | None, std_floor: float
) -> torch.Tensor:
    """Attentive statistics: weighted mean and deviation over time for each channel (arXiv:1803.10963).

    Args:
        x: (batch, channels, time).
        weights: (batch, channels, time), any finite values; their softmax over the valid steps weighs.
        lengths: (batch,) valid time steps, or None.
        std_floor: the smallest variance.

    Returns:
        (batch, 2 * channels) float32: all means, then all deviations.
    """
    x, weights = at_least_float32(x), at_least_float32(weights)
    if lengths is not None:
        mask = time_mask(lengths, x.shape[2])[..., 0]
        x, weights = torch.where(mask, x, 0), weights.masked_fill(~mask, -torch.inf)
    weights = weights.softmax(dim=2)
    mean = (weights * x).sum(dim=2)
    variance = (weights * (x - mean.unsqueeze(2)).square()).sum(dim=2)
    return torch.cat([mean, variance.clamp(min=std_floor).sqrt()], dim=1)
