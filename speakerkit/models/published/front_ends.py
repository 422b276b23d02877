"""From samples to what the network sees, in each system that publishes checkpoints."""

from speakerkit.config import FbankConfig

# source -> filterbank. Per-utterance mean removal hides the waveform's scale, but for quiet sounds:
# on [-1, 1] they reach the floor of the logarithm (checkpoint-wide; up to a quarter of all bins).
FRONT_ENDS = {
    "wespeaker": FbankConfig(window_type="hamming"),
    "3dspeaker": FbankConfig(waveform_scale=1.0),
}
SOURCES = tuple(FRONT_ENDS)
