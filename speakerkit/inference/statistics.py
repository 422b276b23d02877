"""Statistics of frame-level outputs in float64, added up stretch by stretch, as the networks pool them."""

import numpy as np

from speakerkit.config import ModelConfig


class TimeStatistics:
    """Number, mean and sum of squared deviations over time of each channel and frequency."""

    def __init__(self):
        self.count = 0
        self.mean: np.ndarray | float = 0.0
        self.squares: np.ndarray | float = 0.0

    def add(self, outputs: np.ndarray) -> None:
        """Take in (channels, num_steps, freq) further outputs."""
        number = outputs.shape[1]
        if number == 0:
            return
        outputs = outputs.swapaxes(0, 1).astype(np.float64, order="C")  # sums over the first axis take whole rows
        mean = outputs.mean(axis=0)
        outputs -= mean
        squares = np.square(outputs, out=outputs).sum(axis=0)
        total, difference = self.count + number, mean - self.mean
        self.squares = self.squares + squares + np.square(difference) * (self.count * number / total)
        self.mean = self.mean + difference * (number / total)
        self.count = total


def pooled(statistics: TimeStatistics, config: ModelConfig) -> np.ndarray:
    """(n,) float32: what the network pools of the same outputs, all means and then all deviations or one of them."""
    both = POOLING[config.architecture](statistics, config.std_floor).astype(np.float32)
    half = len(both) // 2
    return {"mean": both[:half], "deviation": both[half:]}.get(config.pooling, both)


def _over_time(statistics: TimeStatistics, std_floor: float) -> np.ndarray:
    variance = statistics.squares / max(statistics.count - 1, 1) + std_floor
    return np.concatenate([statistics.mean.ravel(), np.sqrt(variance).ravel()])


def _over_time_and_frequency(statistics: TimeStatistics, std_floor: float) -> np.ndarray:
    mean = statistics.mean.mean(axis=1)
    between = statistics.count * np.square(statistics.mean - mean[:, None]).sum(axis=1)
    variance = (statistics.squares.sum(axis=1) + between) / (statistics.count * statistics.mean.shape[1])
    return np.concatenate([mean, np.sqrt(np.maximum(variance, std_floor))])


RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet221", "resnet293")
RES2NETS = ("res2net", "eres2net", "eres2net_huge", "eres2netv2", "eres2netv2_w24s4ep4")
# The architectures whose frame-level outputs see a bounded stretch of time and are pooled by plain statistics.
POOLING = {**dict.fromkeys((*RESNETS, *RES2NETS), _over_time),
           **dict.fromkeys(("resnet34_reference", "resnet34_sp_l2reg"), _over_time_and_frequency)}
