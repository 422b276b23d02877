"""The usual way to extract embeddings, to be measured against: eager float32 torch, one process, one thread.

A loop over wav.scp as the field's toolkits write it: read, fbank by torchaudio where it loads (else
ours), mean removed, the network as trained (batch norm not folded, contiguous), kaldiio's writer.
usage: plain_extraction.py MODEL.safetensors wav.scp emb.ark
"""

import sys

import kaldiio
import soundfile
import torch

from speakerkit.config import FbankConfig
from speakerkit.features.fbank import compute_fbank
from speakerkit.models import model_file

try:
    from torchaudio.compliance.kaldi import fbank as torchaudio_fbank
except (ImportError, OSError, RuntimeError):  # its wheel doesn't load beside every build of torch
    torchaudio_fbank = None


def features_of(samples: torch.Tensor, rate: int, config: FbankConfig) -> torch.Tensor:
    if torchaudio_fbank is None:
        features = compute_fbank(samples, config)
    else:
        features = torchaudio_fbank(samples[None] * config.waveform_scale, num_mel_bins=config.num_mel_bins,
                                    sample_frequency=rate, window_type=config.window_type)
    return (features - features.mean(dim=0))[None]


def main(model: str, wav_scp: str, emb_ark: str) -> None:
    torch.set_num_threads(1)
    loaded = model_file.load_model(model, golden=False)
    writer = kaldiio.WriteHelper(f"ark,scp:{emb_ark},{emb_ark}.scp")
    with writer, torch.no_grad(), open(wav_scp, encoding="utf-8") as lines:
        for line in lines:
            utt_id, path = line.split(maxsplit=1)
            samples, rate = soundfile.read(path.strip(), dtype="float32")
            writer(utt_id, loaded.network(features_of(torch.from_numpy(samples), rate, loaded.info.fbank))[0].numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
