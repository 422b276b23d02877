"""Embeddings by a library that has no command for a list of recordings: the loop that its own examples show.

usage: peer_extraction.py sherpa-onnx|speechbrain|resemblyzer wav.scp emb.ark [MODEL]
"""

import os
import sys

import kaldiio


def sherpa_onnx(model: str):
    """Its extractor with the same network as ONNX; threads as many as cores."""
    import sherpa_onnx
    import soundfile

    config = sherpa_onnx.SpeakerEmbeddingExtractorConfig(model=model, num_threads=len(os.sched_getaffinity(0)))
    extractor = sherpa_onnx.SpeakerEmbeddingExtractor(config)

    def embed(path: str):
        samples, rate = soundfile.read(path, dtype="float32")
        stream = extractor.create_stream()
        stream.accept_waveform(rate, samples)
        stream.input_finished()
        return extractor.compute(stream)

    return embed


def speechbrain(_: str):
    """Its ResNet with as many blocks and channels (and squeeze and excitation), random weights."""
    import soundfile
    import torch
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.ResNet import ResNet
    from speechbrain.processing.features import InputNormalization

    torch.manual_seed(1)
    fbank, norm = Fbank(n_mels=80), InputNormalization(norm_type="sentence", std_norm=False)
    network = ResNet(input_size=80, channels=[32, 64, 128, 256], block_sizes=[3, 4, 6, 3], lin_neurons=256).eval()

    def embed(path: str):
        samples, _ = soundfile.read(path, dtype="float32")
        with torch.no_grad():
            features = norm(fbank(torch.from_numpy(samples)[None]), torch.ones(1))
            return network(features, torch.ones(1)).numpy().ravel()

    return embed


def resemblyzer(_: str):
    """Its own small LSTM, the weights that it ships."""
    from resemblyzer import VoiceEncoder, preprocess_wav

    encoder = VoiceEncoder("cpu", verbose=False)
    return lambda path: encoder.embed_utterance(preprocess_wav(path))


LIBRARIES = {"sherpa-onnx": sherpa_onnx, "speechbrain": speechbrain, "resemblyzer": resemblyzer}


def main(library: str, wav_scp: str, emb_ark: str, model: str = "") -> None:
    import numpy as np

    embed = LIBRARIES[library](model)
    with kaldiio.WriteHelper(f"ark,scp:{emb_ark},{emb_ark}.scp") as writer, open(wav_scp, encoding="utf-8") as lines:
        for line in lines:
            utt_id, path = line.split()
            writer(utt_id, np.asarray(embed(path), np.float32))


if __name__ == "__main__":
    main(*sys.argv[1:])
