"""The section [fbank]."""

from dataclasses import dataclass

from speakerkit.config.checks import require

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
        require(
            self.filterbank in filterbanks, f"filterbank is '{self.filterbank}'; want one of {', '.join(filterbanks)}"
        )
        if self.filterbank == "speechbrain":
            for name, value in SPEECHBRAIN_FBANK.items():
                require(
                    getattr(self, name) == value,
                    f"{name} is {getattr(self, name)!r}; SpeechBrain's filterbank has {value!r}",
                )
        require(1000 <= self.sample_rate <= 384000, f"sample_rate {self.sample_rate} is outside 1000..384000 Hz")
        require(
            self.frame_length_ms > 0 and self.frame_shift_ms > 0, "frame_length_ms and frame_shift_ms must be positive"
        )
        require(self.frame_length >= 2, f"frame_length_ms {self.frame_length_ms} is under 2 samples")
        require(self.frame_shift >= 1, f"frame_shift_ms {self.frame_shift_ms} is under 1 sample")
        windows = ("povey", "hamming", "hanning", "blackman", "sine", "rectangular")
        require(self.window_type in windows, f"window_type is '{self.window_type}'; want one of {', '.join(windows)}")
        require(3 <= self.num_mel_bins <= 512, f"num_mel_bins {self.num_mel_bins} is outside 3..512")
        require(
            0 <= self.low_freq < self.upper_freq <= self.sample_rate / 2,
            f"low_freq {self.low_freq} and high_freq {self.high_freq} leave no band below {self.sample_rate / 2} Hz",
        )
        require(0 <= self.preemphasis <= 1, f"preemphasis {self.preemphasis} is outside 0..1")
        require(self.dither >= 0, f"dither {self.dither} is negative")
        require(self.energy_floor >= 0, f"energy_floor {self.energy_floor} is negative")
        require(self.waveform_scale > 0, f"waveform_scale {self.waveform_scale} is not positive")

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
