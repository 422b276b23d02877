"""Learning rate and margin as functions of the share of training that is done."""

import math

from speakerkit.config import LossConfig, TrainingConfig


def learning_rate(progress: float, config: TrainingConfig) -> float:
    """Linear warm-up from 0 times a decay that runs over all of training.

    Args:
        progress: share of training done, in [0, 1].

    The exponential and the cosine decay go from ``learning_rate`` to ``final_learning_rate``.
    """
    warm = min(1.0, progress / config.warmup) if config.warmup > 0 else 1.0
    start, end = config.learning_rate, config.final_learning_rate
    if config.schedule == "exponential":
        rate = start * (end / start) ** progress
    elif config.schedule == "cosine":
        rate = end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))
    else:
        rate = start
    return warm * rate


def margin(progress: float, config: LossConfig) -> float:
    """0 until ``margin_start``, then quickly and ever more slowly to the whole margin at ``margin_end``.

    The rise is margin * (1 - 0.001^p), p from 0 to 1 between the two (WeSpeaker's schedule).
    """
    if progress >= config.margin_end:
        return config.margin
    if progress <= config.margin_start:
        return 0.0
    share = (progress - config.margin_start) / (config.margin_end - config.margin_start)
    return config.margin * (1 - 0.001**share)
