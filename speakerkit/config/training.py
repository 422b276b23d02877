"""The sections [loss], [training] and [augmentation]."""

import math
from dataclasses import dataclass

from speakerkit.config.checks import require


@dataclass(frozen=True)
class LossConfig:
    """Additive angular margin softmax (ArcFace, arXiv:1801.07698) and, where there is a teacher, likeness to it."""

    scale: float = 32.0
    margin: float = 0.2  # radians, reached at margin_end
    margin_start: float = 0.0  # share of training before which the margin is 0
    margin_end: float = 0.0  # share of training from which it is whole
    teacher_weight: float = 0.0  # of 1 - cosine to the teacher's embedding of the speaker; 0: no teacher
    teacher_recordings: int = 4  # of each speaker, whose mean embedding is what the network is drawn to

    def __post_init__(self):
        require(0 <= self.teacher_weight <= 1000, f"teacher_weight {self.teacher_weight} is outside 0..1000")
        require(self.teacher_recordings >= 1, f"teacher_recordings {self.teacher_recordings} is less than 1")
        require(0 < self.scale <= 1000, f"scale {self.scale} is outside 0..1000")
        require(0 <= self.margin < math.pi / 2, f"margin {self.margin} is outside 0..pi/2")
        require(
            0 <= self.margin_start <= self.margin_end <= 1,
            f"margin_start {self.margin_start} and margin_end {self.margin_end} are not 0 <= start <= end <= 1",
        )


@dataclass(frozen=True)
class TrainingConfig:
    """Optimiser, schedule, batches and what is kept."""

    num_steps: int = 0  # 0: num_epochs decides
    num_epochs: float = 150.0  # passes over all utterances at all speeds
    batch_size: int = 128
    chunk_frames: int = 200
    sampling: str = "uniform"  # uniform over utterances, or balanced over speakers
    optimizer: str = "sgd"  # sgd (Nesterov momentum) or adam
    learning_rate: float = 0.1
    final_learning_rate: float = 5e-5
    schedule: str = "exponential"  # exponential, cosine or constant, after a linear warm-up
    warmup: float = 0.04  # share of training
    momentum: float = 0.9
    weight_decay: float = 1e-4  # SGD: added to the gradient; Adam: decoupled
    l2: float = 0.0  # added to the loss: l2 / 2 * sum of squared weights of convolutions and layers
    gradient_clip: float = 5.0  # largest norm of the gradient; 0 clips nothing
    head_only: float = 0.0  # share of training, from an initial model, in which its trunk stays as it is
    average_from: float = 1.0  # share of training from which weights are averaged for the final model
    wccn: float = 0.0  # fold within-class covariance normalisation of this smoothing into the last layer; 0: none
    log_interval: int = 50  # steps
    checkpoint_interval: int = 500  # steps
    valid_interval: int = 1000  # steps
    keep_checkpoints: int = 2
    features_on: str = "workers"  # where recordings become features: workers, or device: batched, next to the network
    compile: bool = False  # torch.compile of the step: a minute and a C++ compiler; no gain on a CPU without AMX

    def __post_init__(self):
        require(self.num_steps >= 0 and self.num_epochs > 0, "num_steps is negative or num_epochs not positive")
        require(2 <= self.batch_size <= 65536, f"batch_size {self.batch_size} is outside 2..65536")
        require(9 <= self.chunk_frames <= 100000, f"chunk_frames {self.chunk_frames} is outside 9..100000")
        require(self.sampling in ("uniform", "balanced"), f"sampling is '{self.sampling}'; want uniform or balanced")
        require(self.optimizer in ("sgd", "adam"), f"optimizer is '{self.optimizer}'; want sgd or adam")
        require(
            self.schedule in ("exponential", "cosine", "constant"),
            f"schedule is '{self.schedule}'; want exponential, cosine or constant",
        )
        require(
            0 < self.final_learning_rate <= self.learning_rate,
            f"final_learning_rate {self.final_learning_rate} is not in 0..learning_rate {self.learning_rate}",
        )
        require(0 <= self.warmup < 1, f"warmup {self.warmup} is outside 0..1")
        require(0 <= self.momentum < 1, f"momentum {self.momentum} is outside 0..1")
        require(
            self.weight_decay >= 0 and self.l2 >= 0 and self.gradient_clip >= 0,
            "weight_decay, l2 and gradient_clip must not be negative",
        )
        require(
            self.features_on in ("workers", "device"),
            f"features_on is '{self.features_on}'; want workers or device",
        )
        require(0 <= self.head_only < 1, f"head_only {self.head_only} is outside 0..1")
        require(0 <= self.wccn <= 100, f"wccn {self.wccn} is outside 0..100")
        require(0 <= self.average_from <= 1, f"average_from {self.average_from} is outside 0..1")
        require(
            min(self.log_interval, self.checkpoint_interval, self.valid_interval, self.keep_checkpoints) >= 1,
            "log_interval, checkpoint_interval, valid_interval and keep_checkpoints must be at least 1",
        )


@dataclass(frozen=True)
class AugmentationConfig:
    """What is done to the samples of a chunk before its features; features read from disk stay as they are.

    Each probability is that of one disturbance, drawn anew for every chunk. ``speeds`` other than 1.0
    make further speakers (``speed_speakers = "new"``) or further speech of the same ("keep"). So do
    ``vtln_warps``, which move the filterbank as a longer (under 1) or shorter vocal tract would and
    leave the pitch; every speed is used with every warp.
    """

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    vtln_warps: tuple[float, ...] = (1.0,)
    speed_speakers: str = "new"
    noise: float = 0.0
    babble: float = 0.0  # share of the noises that are other speakers' speech
    snr_db: tuple[float, float] = (5.0, 25.0)
    noise_scp: str = ""  # a wav.scp of noises; without it coloured noise is made
    reverberation: float = 0.0
    rt60_s: tuple[float, float] = (0.15, 0.7)
    response_scp: str = ""  # a wav.scp of room responses; without it they are made
    band_limit: float = 0.0
    high_cut_hz: tuple[float, float] = (3400.0, 7600.0)
    gain_db: tuple[float, float] = (0.0, 0.0)
    clip: float = 0.0  # probability of soft clipping

    def __post_init__(self):
        require(
            len(self.speeds) > 0 and all(0.5 <= s <= 2 for s in self.speeds),
            f"speeds {list(self.speeds)} are outside 0.5..2",
        )
        require(len(set(self.speeds)) == len(self.speeds), f"speeds {list(self.speeds)} name one twice")
        require(
            len(self.vtln_warps) > 0 and all(0.7 <= w <= 1.4 for w in self.vtln_warps),
            f"vtln_warps {list(self.vtln_warps)} are outside 0.7..1.4",
        )
        once = len(set(self.vtln_warps)) == len(self.vtln_warps)
        require(once, f"vtln_warps {list(self.vtln_warps)} name one twice")
        require(self.speed_speakers in ("new", "keep"), f"speed_speakers is '{self.speed_speakers}'; want new or keep")
        for name in ("noise", "babble", "reverberation", "band_limit", "clip"):
            require(0 <= getattr(self, name) <= 1, f"{name} {getattr(self, name)} is outside 0..1")
        for name in ("snr_db", "rt60_s", "high_cut_hz", "gain_db"):
            low, high = getattr(self, name)
            require(low <= high, f"{name} [{low}, {high}] is not in ascending order")
        require(self.rt60_s[0] > 0 and self.high_cut_hz[0] > 100, "rt60_s must be positive and high_cut_hz over 100")
