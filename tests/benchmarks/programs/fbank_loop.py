"""Filterbanks of recordings that lie in memory, one thread: seconds for all of them, by one implementation.

usage: fbank_loop.py speakerkit|torchaudio|kaldi-native-fbank|lhotse wav.scp
"""

import json
import sys
import time
import wave

import numpy as np


def ours():
    import torch

    from speakerkit.config import FbankConfig
    from speakerkit.features.fbank import compute_fbank

    torch.set_num_threads(1)
    config = FbankConfig(window_type="hamming")
    return lambda samples: compute_fbank(samples, config), torch.from_numpy


def torchaudio():
    import torch
    from torchaudio.compliance.kaldi import fbank

    torch.set_num_threads(1)
    return (lambda samples: fbank(samples[None] * 32768, num_mel_bins=80, window_type="hamming", dither=0.0),
            torch.from_numpy)


def kaldi_native_fbank():
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither, options.frame_opts.window_type = 0.0, "hamming"
    options.mel_opts.num_bins = 80

    def compute(samples: list) -> np.ndarray:
        fbank = kaldi_native_fbank.OnlineFbank(options)
        fbank.accept_waveform(16000, samples)
        fbank.input_finished()
        return np.stack([fbank.get_frame(n) for n in range(fbank.num_frames_ready)])

    return compute, lambda samples: (samples * 32768).tolist()  # a list goes in faster than an array


def lhotse():
    import torch
    from lhotse.features.kaldi.extractors import Fbank, FbankConfig

    torch.set_num_threads(1)
    extractor = Fbank(FbankConfig(dither=0.0, window_type="hamming", num_filters=80, snip_edges=True))
    return lambda samples: extractor.extract(samples, 16000), lambda samples: samples[None]


IMPLEMENTATIONS = {"speakerkit": ours, "torchaudio": torchaudio, "kaldi-native-fbank": kaldi_native_fbank,
                   "lhotse": lhotse}


def read_samples(path: str) -> np.ndarray:
    with wave.open(path) as recording:
        return np.frombuffer(recording.readframes(recording.getnframes()), "<i2").astype(np.float32) / 32768


def main(name: str, wav_scp: str) -> None:
    compute, convert = IMPLEMENTATIONS[name]()
    with open(wav_scp, encoding="utf-8") as lines:
        recordings = [convert(read_samples(line.split()[1])) for line in lines]
    compute(recordings[0])
    began = time.perf_counter()
    for samples in recordings:
        compute(samples)
    print(json.dumps({"seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:])
