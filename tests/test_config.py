"""Configurations: what is read, what is refused, and what the files of conf/ say."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.config import (
    AugmentationConfig,
    FbankConfig,
    LossConfig,
    ModelConfig,
    SystemConfig,
    TrainingConfig,
    as_dict,
    make_section,
    parse_system,
    read_system,
)
from speakerkit.errors import ConfigError

CONF = Path(__file__).resolve().parent.parent / "conf"


@pytest.fixture
def read(tmp_path):
    """``read(text)`` reads a configuration of this text; its name is system.toml."""

    def write_and_read(text: str | bytes) -> SystemConfig:
        path = tmp_path / "system.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_system(path)

    return write_and_read


def test_absent_sections_and_options_take_their_defaults(read):
    system = read("[fbank]\nnum_mel_bins = 40\ndither = 1\n")
    assert system == SystemConfig(fbank=FbankConfig(num_mel_bins=40, dither=1.0))
    assert type(system.fbank.dither) is float


def test_lists_become_tuples(read):
    system = read("[model]\nnum_blocks = [1, 2, 3, 4]\n[augmentation]\nspeeds = [0.9, 1]\n")
    assert system.model.num_blocks == (1, 2, 3, 4) and system.augmentation.speeds == (0.9, 1.0)


def test_a_byte_order_mark_and_crlf(read):
    assert read(b"\xef\xbb\xbf[fbank]\r\nnum_mel_bins = 40\r\n").fbank.num_mel_bins == 40


@pytest.mark.parametrize("text, message", [
    ("[fbank]\nnum_mels = 40\n", "[fbank] has no option 'num_mels'; did you mean 'num_mel_bins'?"),
    ("[fbank]\nxyz = 40\n", "[fbank] has no option 'xyz'; it has sample_rate, frame_length_ms"),
    ("[fbanks]\na = 1\n", "unknown section [fbanks]; did you mean [fbank]?; want [fbank], [model]"),
    ("num_mel_bins = 40\n", "unknown section [num_mel_bins]"),
    ("fbank = 40\n", "'fbank' stands outside a section"),
    ("", "has no section; want [fbank]"),
    ("# nothing\n", "has no section"),
    ("[fbank]\nnum_mel_bins = '40'\n", "[fbank] num_mel_bins is '40'; want a number"),
    ("[fbank]\nnum_mel_bins = 40.0\n", "[fbank] num_mel_bins is 40.0; want a number"),
    ("[fbank]\nnum_mel_bins = true\n", "[fbank] num_mel_bins is True; want a number"),
    ("[fbank]\ndither = false\n", "[fbank] dither is False; want a number"),
    ("[fbank]\nsnip_edges = 1\n", "[fbank] snip_edges is 1; want bool"),
    ("[fbank]\nwindow_type = 3\n", "[fbank] window_type is 3; want str"),
    ("[fbank]\ndither = nan\n", "[fbank] dither is nan; want a finite number"),
    ("[fbank]\ndither = 1e999\n", "[fbank] dither is inf; want a finite number"),
    (f"[fbank]\ndither = 1{'0' * 400}\n", "want a finite number"),
    ("[fbank]\nnum_mel_bins = 40\nnum_mel_bins = 80\n", "not TOML: Cannot overwrite a value (at line 3"),
    ("[fbank]\nnum_mel_bins: 40\n", "not TOML: "),
    ("[fbank\n", "not TOML: "),
    ("a = " + "[" * 5000, "not TOML: "),
    ("[model]\npooling = 'max'\n", "[model] pooling is 'max'; want one of statistics, mean, deviation, attention"),
    ("[model]\narchitecture = 'campplus'\npooling = 'mean'\n", "pooling is 'mean', which campplus leaves no choice of"),
    ("[model]\nembedding_norm = true\n", "[model] embedding_norm isn't resnet34's"),
    ("[model]\nnum_blocks = 3\n", "[model] num_blocks is 3; want a list"),
    ("[model]\nnum_blocks = [1, 1, 1]\n", "[model] num_blocks [1, 1, 1] is not four numbers from 1 to 64"),
    ("[model]\nnum_blocks = [1, 1, 1, 'x']\n", "[model] num_blocks is 'x'; want a number"),
    ("[augmentation]\nsnr_db = [5.0]\n", "[augmentation] snr_db has 1 values; want 2"),
])
def test_what_is_refused(read, tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value).startswith(f"{tmp_path}/system.toml: ") and message in str(caught.value)


@pytest.mark.parametrize("content, message", [
    (b"[fbank]\nwindow_type = '\xba\xba'\n", "can't be read: 'utf-8' codec"),  # GBK
    (None, "no such file; want a configuration such as conf/resnet34.toml"),
])
def test_files_that_are_none(tmp_path, content, message):
    if content is not None:
        (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_system(tmp_path / "x.toml")
    with pytest.raises(ConfigError, match="can't be read: is a directory$"):
        read_system(tmp_path)


@pytest.mark.parametrize("section, options, message", [
    (FbankConfig, {"sample_rate": 999}, "sample_rate 999 is outside 1000..384000 Hz"),
    (FbankConfig, {"frame_shift_ms": 0.0}, "must be positive"),
    (FbankConfig, {"frame_shift_ms": 0.01}, "frame_shift_ms 0.01 is under 1 sample"),
    (FbankConfig, {"frame_length_ms": 0.1}, "frame_length_ms 0.1 is under 2 samples"),
    (FbankConfig, {"window_type": "kaiser"}, "window_type is 'kaiser'; want one of povey, hamming"),
    (FbankConfig, {"num_mel_bins": 2}, "num_mel_bins 2 is outside 3..512"),
    (FbankConfig, {"high_freq": -8000.0}, "low_freq 20.0 and high_freq -8000.0 leave no band below 8000.0 Hz"),
    (FbankConfig, {"high_freq": 8001.0}, "leave no band below 8000.0 Hz"),
    (FbankConfig, {"low_freq": -1.0}, "leave no band"),
    (FbankConfig, {"preemphasis": 1.5}, "preemphasis 1.5 is outside 0..1"),
    (FbankConfig, {"dither": -1.0}, "dither -1.0 is negative"),
    (FbankConfig, {"waveform_scale": 0.0}, "waveform_scale 0.0 is not positive"),
    (ModelConfig, {"architecture": "resnet51"}, "architecture is .resnet51.; want one of resnet18, resnet34"),
    (ModelConfig, {"embedding_dim": 0}, "embedding_dim 0 is outside 1..4096"),
    (ModelConfig, {"std_floor": -1.0}, "std_floor -1.0 is outside 0..1"),
    (LossConfig, {"scale": 0.0}, "scale 0.0 is outside 0..1000"),
    (LossConfig, {"margin": 1.6}, "margin 1.6 is outside 0..pi/2"),
    (LossConfig, {"margin_start": 0.5}, "are not 0 <= start <= end <= 1"),
    (TrainingConfig, {"batch_size": 1}, "batch_size 1 is outside 2..65536"),
    (TrainingConfig, {"optimizer": "adamw"}, "optimizer is 'adamw'; want sgd or adam"),
    (TrainingConfig, {"schedule": "linear"}, "schedule is 'linear'"),
    (TrainingConfig, {"final_learning_rate": 1.0}, "final_learning_rate 1.0 is not in 0..learning_rate 0.1"),
    (TrainingConfig, {"log_interval": 0}, "must be at least 1"),
    (AugmentationConfig, {"speeds": ()}, r"speeds \[\] are outside 0.5..2"),
    (AugmentationConfig, {"speeds": (1.0, 1.0)}, "name one twice"),
    (AugmentationConfig, {"noise": 1.1}, "noise 1.1 is outside 0..1"),
    (AugmentationConfig, {"snr_db": (20.0, 5.0)}, r"snr_db \[20.0, 5.0\] is not in ascending order"),
])
def test_impossible_options(section, options, message):
    with pytest.raises(ValueError, match=message):
        section(**options)
    with pytest.raises(ConfigError, match=r"x.toml: \[it\] .*"):
        make_section(section, options, "x.toml", "it")


@settings(max_examples=200)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
                    max_leaves=8),
       st.sampled_from(["fbank", "model", "loss", "training", "augmentation", "other"]), st.data())
def test_any_value_is_taken_or_refused_in_words(value, section, data):
    names = [field.name for field in dataclasses.fields(
        {"fbank": FbankConfig, "model": ModelConfig, "loss": LossConfig, "training": TrainingConfig,
         "augmentation": AugmentationConfig}.get(section, FbankConfig))]
    name = data.draw(st.sampled_from(names))
    try:
        assert isinstance(parse_system({section: {name: value}}, "x.toml"), SystemConfig)
    except ConfigError as error:
        assert str(error).startswith("x.toml: ")


@pytest.mark.parametrize("path", sorted(CONF.glob("*.toml")), ids=lambda path: path.stem)
def test_as_dict_is_read_back(path):
    """Through JSON too, as a model file and a manifest keep it."""
    system = read_system(path)
    assert parse_system(json.loads(json.dumps(as_dict(system), allow_nan=False)), path) == system


def test_sizes_by_hand():
    config = FbankConfig()
    assert (config.frame_length, config.frame_shift, config.fft_length, config.num_columns) == (400, 160, 512, 80)
    config = FbankConfig(sample_rate=8000, frame_length_ms=32.0, round_to_power_of_two=False, use_energy=True)
    assert (config.frame_length, config.frame_shift, config.fft_length, config.num_columns) == (256, 80, 256, 81)
    assert FbankConfig(high_freq=-400.0).upper_freq == 7600.0 and FbankConfig(high_freq=3700.0).upper_freq == 3700.0


def test_the_reference_systems_published_settings():
    """Model card of damo/speech_xvector_sv-zh-cn-cnceleb-16k-spk3465-pytorch."""
    system = read_system(CONF / "resnet34_reference.toml")
    assert (system.loss.scale, system.loss.margin) == (8.0, 0.25)
    assert (system.training.num_steps, system.training.batch_size) == (300000, 64)
    assert (system.training.learning_rate, system.training.l2, system.training.gradient_clip) == (1e-4, 0.01, 3.0)
    assert system.model.architecture == "resnet34_reference" and not system.model.mean_norm
    assert system.fbank == FbankConfig(dither=1.0)
    assert system.augmentation.speed_speakers == "keep" and system.augmentation.speeds == (0.9, 1.0, 1.1)


def test_the_fields_settings():
    system = read_system(CONF / "resnet34.toml")
    assert (system.loss.scale, system.loss.margin) == (32.0, 0.2) and system.model.mean_norm
    assert (system.training.optimizer, system.training.learning_rate, system.training.schedule) == (
        "sgd", 0.1, "exponential")
    assert (system.training.chunk_frames, system.training.batch_size) == (200, 128) and system.training.warmup > 0
