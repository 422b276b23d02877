"""From samples to what the network sees, in each system that publishes checkpoints."""

from dataclasses import dataclass

from speakerkit.config import SPEECHBRAIN_FBANK, FbankConfig


@dataclass(frozen=True)
class FrontEnd:
    """A filterbank, whether each utterance's mean is removed, and what is pooled, which weights don't always tell."""

    fbank: FbankConfig
    mean_norm: bool = True
    pooling: str = ""  # as ``ModelConfig.pooling``; '' where no configuration tells it


# Mean removal hides the waveform's scale, but not in quiet sounds: on [-1, 1] they reach the floor of
# the logarithm (up to a quarter of all bins of a quiet recording).
FRONT_ENDS = {
    "reference": FrontEnd(FbankConfig(dither=1.0), mean_norm=False),
    "wespeaker": FrontEnd(FbankConfig(window_type="hamming")),
    "3dspeaker": FrontEnd(FbankConfig(waveform_scale=1.0)),
    "speechbrain": FrontEnd(
        FbankConfig(filterbank="speechbrain", low_freq=0.0, high_freq=8000.0, waveform_scale=1.0, **SPEECHBRAIN_FBANK)
    ),
}
SOURCES = tuple(FRONT_ENDS)
