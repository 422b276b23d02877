"""Published configurations: front ends as they name them, and YAML that is refused."""

import dataclasses

import pytest

from speakerkit.errors import DataError
from speakerkit.models.published.front_ends import FRONT_ENDS
from speakerkit.models.published.yaml_config import read_published_config

WESPEAKER = """\
dataset_args: {fbank_args: {num_mel_bins: 80, frame_shift: 10, frame_length: 25, dither: 1.0}, resample_rate: 16000}
model: ResNet34
model_args: {feat_dim: 80, embed_dim: 256, pooling_func: TSTP, two_emb_layer: false}
"""
SPEAKER_3D = """\
fbank_dim: 80
sample_rate: 16000
feature_extractor:
  obj: speakerlab.process.processor.FBank
  args: {n_mels: <fbank_dim>, sample_rate: <sample_rate>, mean_nor: True}
embedding_model: {obj: speakerlab.models.campplus.DTDNN.CAMPPlus, args: {feat_dim: <fbank_dim>}}
min_lr: !!float 5e-5
"""
SPEECHBRAIN = """\
pretrained_path: speechbrain/spkrec-ecapa-voxceleb
n_mels: 80
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [1024, 1024, 1024, 1024, 3072]
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
device: !apply:os.system [touch it-ran]
"""
REFERENCE = """\
encoder: resnet34
frontend: wav_frontend
frontend_conf: {fs: 16000, window: povey, n_mels: 80, frame_length: 25, frame_shift: 10, lfr_m: 1, lfr_n: 1}
token_list: [id00000, id00001]
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write_and_read(text: str):
        (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
        return read_published_config("x.yaml")

    return write_and_read


@pytest.mark.parametrize("source, text", [
    ("wespeaker", WESPEAKER), ("3dspeaker", SPEAKER_3D), ("speechbrain", SPEECHBRAIN), ("reference", REFERENCE)])
def test_the_published_ones_name_their_systems_front_end(read, tmp_path, source, text):
    told, front_end = read(text)
    assert told == source
    assert dataclasses.replace(front_end, pooling="") == FRONT_ENDS[source]
    assert not (tmp_path / "it-ran").exists()


def test_what_they_change_is_taken(read):
    _, front_end = read(WESPEAKER.replace("num_mel_bins: 80", "num_mel_bins: 40").replace("16000", "8000, cmvn: false"))
    assert (front_end.fbank.num_mel_bins, front_end.fbank.sample_rate, front_end.mean_norm) == (40, 8000, False)
    _, front_end = read(SPEAKER_3D.replace("fbank_dim: 80", "fbank_dim: 64"))
    assert front_end.fbank.num_mel_bins == 64


@pytest.mark.parametrize("text, message", [
    ("", "is a NoneType; want keys with values"),
    ("a: [", r"x\.yaml:1: is no plain YAML"),
    ("- 1", "is a list"),
    ("hello: 1", r"is no configuration of wespeaker, 3dspeaker, speechbrain, reference \(its keys are \['hello'\]"),
    ("a: !!python/object/apply:os.system [touch it-ran]", "is no plain YAML: could not determine a constructor"),
    ("a: &a 1\nb: [" + "*a, " * 101 + "]", "holds 101 aliases; want at most 100"),
    ("[" * 100_000, r"x\.yaml:1: nests deeper than 50"),
    ("a: " + "x" * (1 << 20), "has more than 1,048,576 bytes"),
    (WESPEAKER.replace("dataset_args: {", "dataset_args: {frontend: s3prl, "), "dataset_args.frontend is 's3prl'"),
    (WESPEAKER.replace("num_mel_bins: 80", "num_mel_bins: [80]"), r"num_mel_bins is \[80\]"),
    (WESPEAKER.replace("num_mel_bins: 80", "num_mel_bins: 8000"), "num_mel_bins 8000 is outside 3..512"),
    (SPEECHBRAIN.replace("std_norm: False", "std_norm: True"), "mean_var_norm.std_norm is True; want False"),
    (REFERENCE.replace("lfr_m: 1", "lfr_m: 7"), "frontend_conf.lfr_m is 7; want 1"),
])
def test_what_is_refused(read, tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(text)
    assert not (tmp_path / "it-ran").exists()
