"""A long recording in blocks: the samples of load_audio, and its refusals."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakerkit.errors import RecordingError
from speakerkit.features.resample import resample, resample_blocks
from speakerkit.io import audio_stream
from speakerkit.io.audio import AudioOptions, load_audio
from speakerkit.io.audio_stream import StreamFault, open_stream


@pytest.fixture(autouse=True)
def short_is_long(monkeypatch):
    monkeypatch.setattr(audio_stream, "LONG_S", 1.0)
    monkeypatch.setattr(audio_stream, "BLOCK_S", 0.5)


@pytest.fixture
def write(tmp_path):
    def make(name="a.wav", seconds=3.3, change=None, rate=16000, **options):
        samples = 0.1 * np.random.default_rng(1).standard_normal((int(seconds * rate), 2)).astype(np.float32)
        if change is not None:
            change(samples)
        soundfile.write(tmp_path / name, samples, rate, **options)
        return str(tmp_path / name)

    return make


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
@pytest.mark.parametrize("start_s, end_s", [(None, None), (0.7, 2.9)])
def test_blocks_are_the_samples(write, name, start_s, end_s):
    path, options = write(name), AudioOptions(channel="mix")
    whole, rate = load_audio(path, options, start_s, end_s)
    stream = open_stream(path, options, start_s, end_s)
    for _ in range(2):
        blocks = list(stream.blocks())
        assert len(blocks) > 3 and stream.sample_rate == rate
        # An MP3's samples depend in their last bit on where a block ends.
        np.testing.assert_allclose(np.concatenate(blocks), whole, rtol=0, atol=1e-7 if name == "a.mp3" else 0)


def test_notes_are_counted_once_it_is_read(write):
    def clip(samples):
        samples[100] = 1.5

    stream, notes = open_stream(write(change=clip, subtype="FLOAT"), AudioOptions(channel=0), end_s=3.31), Counter()
    list(stream.blocks(notes))
    assert notes == {"over-range": 1, "segment-end": 1}


def test_what_is_loaded_at_once(write):
    path = write(seconds=0.9)
    assert open_stream(path, AudioOptions(channel=0)) is None
    assert open_stream(write(), AudioOptions(channel=0, accept_truncated=True)) is None
    assert open_stream(f"cat {path} |", AudioOptions(channel=0, allow_pipes=True)) is None


@pytest.mark.parametrize("change", [lambda s: s.fill(0.0), lambda s: s.__setitem__(9000, np.nan),
                                    lambda s: s.__imul__(32768)], ids=["silent", "nan", "16-bit scale"])
def test_bad_samples_are_a_fault(write, change):
    stream = open_stream(write(change=change, subtype="FLOAT"), AudioOptions(channel=0))
    with pytest.raises(StreamFault):
        list(stream.blocks())


def test_a_flac_that_breaks_off_is_a_fault(write, tmp_path):
    data = Path(write("a.flac")).read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) // 2])
    stream = open_stream(str(tmp_path / "cut.flac"), AudioOptions(channel=0))
    with pytest.raises(StreamFault):
        list(stream.blocks())


def test_a_header_is_refused_as_ever(write):
    with pytest.raises(RecordingError, match="channel-not-chosen"):
        open_stream(write(), AudioOptions())


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_resampled_in_blocks_it_is_the_same_sound(rate):
    samples = 0.1 * np.random.default_rng(1).standard_normal(rate * 2 + 11).astype(np.float32)
    whole = resample(samples, rate, 16000)
    ours = np.concatenate(list(resample_blocks(np.array_split(samples, 7), rate, 16000)))
    assert len(ours) == len(whole)
    np.testing.assert_allclose(ours, whole, atol=1e-5)
