"""One TOML file configures a whole system: its sections as frozen dataclasses that judge themselves.

A misspelt option, a wrong type or an impossible value is a ConfigError that names the file, the
section, the value and the near name; nothing is ignored.
"""

import dataclasses
import difflib
import math
import os
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

from speakerkit.errors import ConfigError


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


# What SpeechBrain's filterbank does, in Kaldi's words: its frames are centred, with zeros beyond the ends.
SPEECHBRAIN_FBANK = {
    "window_type": "hamming", "preemphasis": 0.0, "dither": 0.0, "remove_dc_offset": False, "snip_edges": False,
    "round_to_power_of_two": False, "use_power": True, "use_log_fbank": True, "use_energy": False,
}


@dataclass(frozen=True)
class FbankConfig:
    """Log-mel filterbank options, named as in Kaldi's compute-fbank-feats.

    Samples in [-1, 1] are multiplied by ``waveform_scale`` first: 32768 is Kaldi's 16-bit scale,
    1 is what 3D-Speaker's models expect.
    """

    sample_rate: int = 16000  # Hz
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    window_type: str = "povey"  # povey, hamming, hanning, blackman, sine, rectangular
    blackman_coeff: float = 0.42
    num_mel_bins: int = 80
    low_freq: float = 20.0  # Hz
    high_freq: float = 0.0  # Hz; 0 or less counts down from the Nyquist frequency
    dither: float = 0.0  # standard deviation, in steps of the scaled samples
    preemphasis: float = 0.97
    remove_dc_offset: bool = True
    snip_edges: bool = True
    round_to_power_of_two: bool = True
    use_power: bool = True
    use_log_fbank: bool = True
    use_energy: bool = False  # log energy as the first column
    raw_energy: bool = True  # energy before pre-emphasis and window
    energy_floor: float = 0.0  # floor on the energy column; 0 is no floor
    htk_compat: bool = False  # energy column last
    waveform_scale: float = 32768.0
    filterbank: str = "kaldi"  # or speechbrain, which has few of Kaldi's options

    def __post_init__(self):
        filterbanks = ("kaldi", "speechbrain")
        _require(
            self.filterbank in filterbanks, f"filterbank is '{self.filterbank}'; want one of {', '.join(filterbanks)}"
        )
        if self.filterbank == "speechbrain":
            for name, value in SPEECHBRAIN_FBANK.items():
                _require(
                    getattr(self, name) == value,
                    f"{name} is {getattr(self, name)!r}; SpeechBrain's filterbank has {value!r}",
                )
        _require(1000 <= self.sample_rate <= 384000, f"sample_rate {self.sample_rate} is outside 1000..384000 Hz")
        _require(
            self.frame_length_ms > 0 and self.frame_shift_ms > 0, "frame_length_ms and frame_shift_ms must be positive"
        )
        _require(self.frame_length >= 2, f"frame_length_ms {self.frame_length_ms} is under 2 samples")
        _require(self.frame_shift >= 1, f"frame_shift_ms {self.frame_shift_ms} is under 1 sample")
        windows = ("povey", "hamming", "hanning", "blackman", "sine", "rectangular")
        _require(self.window_type in windows, f"window_type is '{self.window_type}'; want one of {', '.join(windows)}")
        _require(3 <= self.num_mel_bins <= 512, f"num_mel_bins {self.num_mel_bins} is outside 3..512")
        _require(
            0 <= self.low_freq < self.upper_freq <= self.sample_rate / 2,
            f"low_freq {self.low_freq} and high_freq {self.high_freq} leave no band below {self.sample_rate / 2} Hz",
        )
        _require(0 <= self.preemphasis <= 1, f"preemphasis {self.preemphasis} is outside 0..1")
        _require(self.dither >= 0, f"dither {self.dither} is negative")
        _require(self.energy_floor >= 0, f"energy_floor {self.energy_floor} is negative")
        _require(self.waveform_scale > 0, f"waveform_scale {self.waveform_scale} is not positive")

    @property
    def frame_length(self) -> int:
        """Samples a frame."""
        return int(self.sample_rate * self.frame_length_ms * 0.001)

    @property
    def frame_shift(self) -> int:
        """Samples from one frame to the next."""
        return int(self.sample_rate * self.frame_shift_ms * 0.001)

    @property
    def fft_length(self) -> int:
        """Points of the DFT; the frame is zero-padded at its end."""
        if not self.round_to_power_of_two:
            return self.frame_length
        return 1 << (self.frame_length - 1).bit_length()

    @property
    def upper_freq(self) -> float:
        """Upper edge of the highest filter in Hz."""
        return self.high_freq if self.high_freq > 0 else self.sample_rate / 2 + self.high_freq

    @property
    def num_columns(self) -> int:
        """Values a frame."""
        return self.num_mel_bins + int(self.use_energy)


# architecture -> its own width (``base_channels``), blocks a stage (``num_blocks``) and embedding size
ARCHITECTURES = {
    "resnet18": (32, (2, 2, 2, 2), 256),
    "resnet34": (32, (3, 4, 6, 3), 256),
    "resnet50": (32, (3, 4, 6, 3), 256),
    "resnet101": (32, (3, 4, 23, 3), 256),
    "resnet152": (32, (3, 8, 36, 3), 256),
    "resnet221": (32, (6, 16, 48, 3), 256),
    "resnet293": (32, (10, 20, 64, 3), 256),
    "resnet34_reference": (32, (3, 4, 6, 3), 256),
    "resnet34_sp_l2reg": (32, (3, 4, 6, 3), 256),
    "simam_resnet34": (64, (3, 4, 6, 3), 256),
    "simam_resnet100": (64, (6, 16, 24, 3), 256),
    "resnet_speechbrain": (128, (3, 4, 6, 3), 256),
    "campplus": (32, (12, 24, 16), 192),
    "ecapa": (512, (3,), 192),
    "ecapa_speechbrain": (1024, (3,), 192),
    "eres2net": (32, (3, 4, 6, 3), 192),
    "eres2net_huge": (64, (3, 4, 6, 3), 192),
    "eres2netv2": (64, (3, 4, 6, 3), 192),
    "eres2netv2_w24s4ep4": (64, (3, 4, 6, 3), 192),
    "res2net": (32, (3, 4, 6, 3), 192),
}
# What a network's parts need: ECAPA splits its channels in eight, ERes2Net's attention has a quarter of a part's.
WIDTH_MULTIPLES = {"ecapa": 8, "eres2net": 4, "res2net": 2}
POOLINGS = ("statistics", "mean", "deviation", "attention")
COUNT_WORDS = {1: "one number", 3: "three numbers", 4: "four numbers"}


@dataclass(frozen=True)
class ModelConfig:
    """A network and what is done to its features.

    ``resnet18`` to ``resnet293`` are WeSpeaker's and 3D-Speaker's (statistics over time), ``resnet34_reference``
    the published CN-Celeb model's (pre-activation, statistics over time and frequency), ``resnet34_sp_l2reg`` its
    sibling's (a layer over all frequencies, statistics over time), ``resnet_speechbrain`` SpeechBrain's,
    ``simam_resnet...`` WeSpeaker's of VoxBlink2; ``ecapa`` is WeSpeaker's form, ``ecapa_speechbrain`` SpeechBrain's
    and 3D-Speaker's; ``campplus``, ``eres2net...`` and ``res2net`` are 3D-Speaker's. What isn't given takes the
    architecture's own value.
    """

    architecture: str = "resnet34"
    embedding_dim: int | None = None
    # resnet, eres2net: of the first stage; campplus: of the 2-D head and of a dense layer; ecapa: of all layers
    base_channels: int | None = None
    num_blocks: tuple[int, ...] | None = None  # residual blocks or dense layers of each stage; ecapa: blocks
    two_embedding_layers: bool = False  # resnet18 to 293, (e)res2net: ReLU, batch norm, a second layer
    pooling: str = "statistics"  # resnet18 to 293, (e)res2net: mean and deviation; mean; deviation; attention
    embedding_norm: bool = False  # ecapa: batch norm behind the embedding layer
    pooled_channels: int = 0  # ecapa: channels that are pooled; 0 takes three times the others, at most 1536 in ecapa
    global_context: bool = True  # ecapa: attention also sees the utterance's mean and deviation
    std_floor: float = 1e-7  # added to the variance; reference: its smallest value
    mean_norm: bool = True  # subtract each utterance's mean over time from its features

    def __post_init__(self):
        _require(
            self.architecture in ARCHITECTURES,
            f"architecture is '{self.architecture}'; want one of {', '.join(ARCHITECTURES)}",
        )
        width, blocks, dim = ARCHITECTURES[self.architecture]
        for name, own in (("embedding_dim", dim), ("base_channels", width), ("num_blocks", blocks)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, own)
        if self.pooled_channels == 0 and self.architecture in ("ecapa", "ecapa_speechbrain"):
            own = 3 * self.base_channels
            object.__setattr__(self, "pooled_channels", min(own, 1536) if self.architecture == "ecapa" else own)
        _require(1 <= self.embedding_dim <= 4096, f"embedding_dim {self.embedding_dim} is outside 1..4096")
        _require(1 <= self.base_channels <= 4096, f"base_channels {self.base_channels} is outside 1..4096")
        _require(
            len(self.num_blocks) == len(blocks) and all(1 <= n <= 64 for n in self.num_blocks),
            f"num_blocks {list(self.num_blocks)} is not {COUNT_WORDS[len(blocks)]} from 1 to 64",
        )
        multiple = WIDTH_MULTIPLES.get(self.architecture.partition("_")[0].removesuffix("v2"), 1)
        _require(
            self.base_channels % multiple == 0,
            f"base_channels {self.base_channels} is no multiple of {multiple}, as {self.architecture} needs",
        )
        _require(self.pooling in POOLINGS, f"pooling is '{self.pooling}'; want one of {', '.join(POOLINGS)}")
        fixed = self.architecture.startswith(("ecapa", "campplus", "simam")) or self.architecture in (
            "resnet34_reference", "resnet34_sp_l2reg", "resnet_speechbrain")
        _require(self.pooling == "statistics" or not fixed, f"pooling is '{self.pooling}', which {self.architecture} "
                                                            "leaves no choice of")
        _require(not self.embedding_norm or self.architecture == "ecapa", f"embedding_norm isn't {self.architecture}'s")
        _require(0 <= self.pooled_channels <= 16384, f"pooled_channels {self.pooled_channels} is outside 0..16384")
        _require(0 <= self.std_floor < 1, f"std_floor {self.std_floor} is outside 0..1")


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
        _require(0 <= self.teacher_weight <= 1000, f"teacher_weight {self.teacher_weight} is outside 0..1000")
        _require(self.teacher_recordings >= 1, f"teacher_recordings {self.teacher_recordings} is less than 1")
        _require(0 < self.scale <= 1000, f"scale {self.scale} is outside 0..1000")
        _require(0 <= self.margin < math.pi / 2, f"margin {self.margin} is outside 0..pi/2")
        _require(
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
    compile: bool = False  # torch.compile of the network's step: faster after a minute, needs a C++ compiler

    def __post_init__(self):
        _require(self.num_steps >= 0 and self.num_epochs > 0, "num_steps is negative or num_epochs not positive")
        _require(2 <= self.batch_size <= 65536, f"batch_size {self.batch_size} is outside 2..65536")
        _require(9 <= self.chunk_frames <= 100000, f"chunk_frames {self.chunk_frames} is outside 9..100000")
        _require(self.sampling in ("uniform", "balanced"), f"sampling is '{self.sampling}'; want uniform or balanced")
        _require(self.optimizer in ("sgd", "adam"), f"optimizer is '{self.optimizer}'; want sgd or adam")
        _require(
            self.schedule in ("exponential", "cosine", "constant"),
            f"schedule is '{self.schedule}'; want exponential, cosine or constant",
        )
        _require(
            0 < self.final_learning_rate <= self.learning_rate,
            f"final_learning_rate {self.final_learning_rate} is not in 0..learning_rate {self.learning_rate}",
        )
        _require(0 <= self.warmup < 1, f"warmup {self.warmup} is outside 0..1")
        _require(0 <= self.momentum < 1, f"momentum {self.momentum} is outside 0..1")
        _require(
            self.weight_decay >= 0 and self.l2 >= 0 and self.gradient_clip >= 0,
            "weight_decay, l2 and gradient_clip must not be negative",
        )
        _require(
            self.features_on in ("workers", "device"),
            f"features_on is '{self.features_on}'; want workers or device",
        )
        _require(0 <= self.head_only < 1, f"head_only {self.head_only} is outside 0..1")
        _require(0 <= self.wccn <= 100, f"wccn {self.wccn} is outside 0..100")
        _require(0 <= self.average_from <= 1, f"average_from {self.average_from} is outside 0..1")
        _require(
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
        _require(
            len(self.speeds) > 0 and all(0.5 <= s <= 2 for s in self.speeds),
            f"speeds {list(self.speeds)} are outside 0.5..2",
        )
        _require(len(set(self.speeds)) == len(self.speeds), f"speeds {list(self.speeds)} name one twice")
        _require(
            len(self.vtln_warps) > 0 and all(0.7 <= w <= 1.4 for w in self.vtln_warps),
            f"vtln_warps {list(self.vtln_warps)} are outside 0.7..1.4",
        )
        once = len(set(self.vtln_warps)) == len(self.vtln_warps)
        _require(once, f"vtln_warps {list(self.vtln_warps)} name one twice")
        _require(self.speed_speakers in ("new", "keep"), f"speed_speakers is '{self.speed_speakers}'; want new or keep")
        for name in ("noise", "babble", "reverberation", "band_limit", "clip"):
            _require(0 <= getattr(self, name) <= 1, f"{name} {getattr(self, name)} is outside 0..1")
        for name in ("snr_db", "rt60_s", "high_cut_hz", "gain_db"):
            low, high = getattr(self, name)
            _require(low <= high, f"{name} [{low}, {high}] is not in ascending order")
        _require(self.rt60_s[0] > 0 and self.high_cut_hz[0] > 100, "rt60_s must be positive and high_cut_hz over 100")


@dataclass(frozen=True)
class SystemConfig:
    """A whole system, as one file of `conf/` describes it."""

    fbank: FbankConfig = field(default_factory=FbankConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)


def _checked(value: object, wanted: object, where: str) -> object:
    """One option's value as the type its dataclass names; an int serves as a float, a list as a tuple."""
    if isinstance(wanted, types.UnionType):
        wanted = typing.get_args(wanted)[0]
    origin = typing.get_origin(wanted)
    if origin is tuple:
        inner = typing.get_args(wanted)
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} is {value!r}; want a list")
        if inner[-1] is not Ellipsis and len(value) != len(inner):
            raise ConfigError(f"{where} has {len(value)} values; want {len(inner)}")
        return tuple(_checked(item, inner[0], where) for item in value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**1000 else math.inf
    if type(value) is not wanted:
        raise ConfigError(f"{where} is {value!r}; want {'a number' if wanted in (int, float) else wanted.__name__}")
    if wanted is float and not math.isfinite(value):
        raise ConfigError(f"{where} is {value!r}; want a finite number")
    return value


def make_section(cls: type, values: dict, path: str | os.PathLike, section: str):
    """A section's dataclass from its table.

    Raises:
        ConfigError: unknown option (with the near name), wrong type, value out of range.
    """
    hints = typing.get_type_hints(cls)
    for name in values:
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; it has {', '.join(hints)}"
            raise ConfigError(f"{os.fspath(path)}: [{section}] has no option '{name}'{hint}")
    checked = {
        name: _checked(value, hints[name], f"{os.fspath(path)}: [{section}] {name}") for name, value in values.items()
    }
    try:
        return cls(**checked)
    except ValueError as error:
        raise ConfigError(f"{os.fspath(path)}: [{section}] {error}") from None


def parse_system(tables: dict, path: str | os.PathLike) -> SystemConfig:
    """A whole system from parsed TOML (or from what ``as_dict`` gave); absent sections take their defaults."""
    sections = {f.name: f.type for f in dataclasses.fields(SystemConfig)}
    for name, values in tables.items():
        if name not in sections:
            near = difflib.get_close_matches(name, sections, n=1)
            hint = f"; did you mean [{near[0]}]?" if near else ""
            raise ConfigError(
                f"{os.fspath(path)}: unknown section [{name}]{hint}; want {', '.join(f'[{s}]' for s in sections)}"
            )
        if not isinstance(values, dict):
            raise ConfigError(
                f"{os.fspath(path)}: '{name}' stands outside a section; want {', '.join(f'[{s}]' for s in sections)}"
            )
    return SystemConfig(**{name: make_section(sections[name], values, path, name) for name, values in tables.items()})


def read_system(path: str | os.PathLike) -> SystemConfig:
    """Read `conf/*.toml`.

    Raises:
        ConfigError: no such file, not UTF-8, not TOML, or what ``parse_system`` refuses.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        tables = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"{os.fspath(path)}: no such file; want a configuration such as conf/resnet34.toml") from None
    except OSError as error:
        raise ConfigError(f"{os.fspath(path)}: can't be read: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{os.fspath(path)}: can't be read: {error}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{os.fspath(path)}: not TOML: {error}") from None
    if not tables:
        raise ConfigError(
            f"{os.fspath(path)}: has no section; want [fbank], [model], [loss], [training] or [augmentation]"
        )
    return parse_system(tables, path)


def as_dict(config) -> dict:
    """A section or a whole system as plain dictionaries, lists, numbers and strings, for JSON."""

    def plain(value):
        if dataclasses.is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return [plain(v) for v in value] if isinstance(value, tuple) else value

    return plain(config)
