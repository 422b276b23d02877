"""speakerkit: speaker verification in the Kaldi recipe style."""

__version__ = "0.1.0"
