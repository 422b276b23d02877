"""One recording in, checked samples out: what is read, and how the options take it."""

import io
import logging
import os
import struct
from collections import Counter

import numpy as np
import pytest
import soundfile

from speakerkit.errors import RecordingError
from speakerkit.io import audio, sound_file
from speakerkit.io.audio import AudioOptions, load_audio, read_chunk, scan_audio

RATE = 16000
DEFAULT = AudioOptions()
CUT_ACCEPTED = AudioOptions(accept_truncated=True)


def make_sound(num_samples: int = 32000, seed: int = 1) -> np.ndarray:
    """Something to hear that is no speech: noise whose level goes up and down."""
    noise = np.random.default_rng(seed).standard_normal(num_samples)
    return (0.1 * noise * np.abs(np.sin(np.arange(num_samples) / 3000.0))).astype(np.float32)


def encode(samples: np.ndarray, kind: str, subtype: str | None = None, rate: int = RATE) -> bytes:
    """The bytes of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


SOUND = make_sound()
WAV = encode(SOUND, "WAV", "PCM_16")
FLAC = encode(SOUND, "FLAC")
VORBIS = encode(make_sound(96000), "OGG", "VORBIS")
OPUS = encode(make_sound(96000), "OGG", "OPUS")
MP3 = encode(SOUND, "MP3")
STEREO = encode(np.stack([SOUND, -SOUND], 1), "WAV")


def with_data_size(wav: bytes, size: int) -> bytes:
    """A 44-byte-header WAV whose data chunk declares another size."""
    return wav[:40] + struct.pack("<I", size) + wav[44:]


def with_flac_total(flac: bytes, total: int) -> bytes:
    """A FLAC whose STREAMINFO claims another number of samples."""
    word = int.from_bytes(flac[18:26], "big") & ~((1 << 36) - 1) | total
    return flac[:18] + word.to_bytes(8, "big") + flac[26:]


def flipped(data: bytes, start: int, count: int = 40) -> bytes:
    """The same with some bytes inverted."""
    return data[:start] + bytes(value ^ 0xFF for value in data[start:start + count]) + data[start + count:]


@pytest.fixture
def put(tmp_path):
    """``put(data, name)`` writes a file and returns its path."""
    def write(data: bytes, name: str = "x.wav") -> str:
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)
    return write


def refusal(path, options: AudioOptions = DEFAULT, **segment) -> RecordingError:
    """The refusal of a recording; scanning it never says anything else than loading it does."""
    with pytest.raises(RecordingError) as caught:
        load_audio(path, options, **segment)
    if not segment and isinstance(path, str):
        try:
            scan_audio(path, options)
        except RecordingError as scanned:
            assert (scanned.reason, scanned.detail) == (caught.value.reason, caught.value.detail)
    return caught.value


# --- what is read

@pytest.mark.parametrize("kind, subtype, atol", [
    ("WAV", "PCM_16", 2 ** -15), ("WAV", "PCM_24", 2 ** -22), ("WAV", "PCM_32", 2 ** -23), ("WAV", "FLOAT", 0.0),
    ("WAV", "DOUBLE", 0.0), ("WAV", "PCM_U8", 2 ** -6), ("WAV", "ULAW", 0.02), ("WAV", "ALAW", 0.02),
    ("WAVEX", "PCM_16", 2 ** -15), ("RF64", "PCM_16", 2 ** -15), ("FLAC", "PCM_16", 2 ** -15),
    ("FLAC", "PCM_24", 2 ** -22), ("NIST", "PCM_16", 2 ** -15),  # half a step of rounding, or a step where it floors
])
def test_lossless_and_companded_formats_give_the_samples_back(put, kind, subtype, atol):
    path = put(encode(SOUND, kind, subtype))
    samples, rate = load_audio(path)
    assert rate == RATE and samples.dtype == np.float32 and samples.shape == SOUND.shape
    np.testing.assert_allclose(samples, SOUND, atol=atol, rtol=0)
    assert scan_audio(path) == audio.AudioInfo(RATE, len(SOUND), 1, kind)
    assert scan_audio(path).duration_s == 2.0


@pytest.mark.parametrize("kind, subtype", [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("WAV", "GSM610"),
                                           ("WAV", "IMA_ADPCM")])
def test_lossy_formats_give_as_many_samples_and_nearly_the_sound(put, kind, subtype):
    tone = 0.3 * np.sin(2 * np.pi * 440 / RATE * np.arange(32000)).astype(np.float32)
    samples, rate = load_audio(put(encode(tone, kind, subtype)))
    assert rate == RATE and len(samples) >= 32000  # ADPCM fills its last block
    assert np.corrcoef(samples[4000:28000], tone[4000:28000])[0, 1] > 0.99


def test_the_content_decides_not_the_name(put):
    for data in (FLAC, MP3, VORBIS, WAV):
        assert load_audio(put(data, "x.wav"))[1] == RATE
    assert scan_audio(put(WAV, "x.pcm")).format == "WAV"


def test_raw_pcm_needs_its_rate(put):
    path = put(WAV[44:], "x.PCM")
    samples, rate = load_audio(path, AudioOptions(pcm_rate=8000))
    np.testing.assert_allclose(samples, SOUND, atol=2 ** -15, rtol=0)
    assert rate == 8000 and scan_audio(path, AudioOptions(pcm_rate=8000)).format == "PCM"
    assert refusal(path).reason == "bad-sample-rate" and "--pcm-rate" in refusal(path).detail
    odd = refusal(put(WAV[44:-1], "y.pcm"), AudioOptions(pcm_rate=8000))
    assert (odd.reason, odd.detail) == ("truncated", "63999 bytes end inside a 16-bit sample")


def test_bytes_and_file_objects(put):
    expected, _ = load_audio(put(WAV))
    for thing in (WAV, bytearray(WAV), memoryview(WAV), io.BytesIO(WAV)):
        np.testing.assert_array_equal(load_audio(thing)[0], expected)
    with open(put(WAV, "named.wav"), "rb") as file:
        np.testing.assert_array_equal(load_audio(file)[0], expected)
    with open(put(b"", "nothing.wav"), "rb") as file:
        assert refusal(file).path.endswith("nothing.wav")
    assert str(refusal(b"")) == "<bytes>: empty: 0 bytes"
    with pytest.raises(ValueError, match="a path, bytes or a binary file object, not list"):
        load_audio([0.0])
    with pytest.raises(ValueError, match="binary mode"):
        load_audio(io.StringIO("RIFF"))


@pytest.mark.parametrize("name", [
    "a b.wav", "a  b.wav", "录音.wav", "a[1].wav", "a:5.wav", os.fsdecode(b"\xff\xfe.wav")])
def test_any_path_is_only_a_path(put, name):
    assert scan_audio(put(WAV, name)).num_samples == 32000
    assert len(load_audio(put(WAV, name))[0]) == 32000


def test_real_speech_is_never_called_silent_or_cut(speech_files):
    paths = [path for recordings in speech_files.values() for path in recordings[:1]]
    assert len(paths) >= 24
    for path in paths:
        samples, rate = load_audio(path)
        assert len(samples) == scan_audio(path).num_samples and rate == RATE
        assert audio.silence.active_seconds(0.01 * samples, rate) >= 2 * audio.silence.MIN_ACTIVE_S


# --- segments and chunks

@pytest.mark.parametrize("data", [WAV, FLAC, encode(SOUND, "WAV", "GSM610"), VORBIS, OPUS, MP3],
                         ids=["wav", "flac", "gsm", "vorbis", "opus", "mp3"])
def test_a_segment_is_that_part_of_the_whole(put, data):
    path = put(data)
    whole, _ = load_audio(path)
    np.testing.assert_array_equal(load_audio(path, start_s=0.5, end_s=1.25)[0], whole[8000:20000])
    np.testing.assert_array_equal(load_audio(path, start_s=0.5, end_s=-1)[0], whole[8000:])
    np.testing.assert_array_equal(load_audio(path, end_s=1.0)[0], whole[:16000])


def test_a_segment_may_end_a_little_late(put):
    notes = Counter()
    assert len(load_audio(put(WAV), start_s=1.0, end_s=2.04, notes=notes)[0]) == 16000
    assert notes == {"segment-end": 1}


@pytest.mark.parametrize("start_s, end_s, detail", [
    (1.0, 2.06, "segment 1 to 2.06 s, but the recording ends at 2.000 s"),
    (2.0, 2.04, "segment 2 to 2.04 s, but the recording ends at 2.000 s"),
    (1.0, 1.0, "segment 1 to 1 s; want 0 <= start < end"),
    (1.5, 1.0, "segment 1.5 to 1 s; want 0 <= start < end"),
    (-0.5, 1.0, "segment -0.5 to 1 s; want 0 <= start < end"),
    (float("nan"), 1.0, "segment nan to 1 s; want 0 <= start < end"),
    (0.5, 0.6, "0.100 s; wanted at least 0.3 s"),
])
def test_an_impossible_segment_is_refused(put, start_s, end_s, detail):
    error = refusal(put(WAV), start_s=start_s, end_s=end_s)
    assert (error.reason, error.detail) == ("too-short", detail)


@pytest.mark.parametrize("data", [WAV, FLAC], ids=["wav", "flac"])
def test_read_chunk_reads_those_samples(put, data):
    path = put(data)
    whole, _ = load_audio(path)
    for start, count in ((0, 32000), (1, 1), (12345, 4000), (31999, 1)):
        np.testing.assert_array_equal(read_chunk(path, start, count), whole[start:start + count])


def test_read_chunk_takes_what_was_accepted_when_it_was_scanned(put):
    whole, _ = load_audio(put(WAV))
    np.testing.assert_array_equal(read_chunk(put(WAV[:40044]), 15000, 5000), whole[15000:20000])
    np.testing.assert_array_equal(read_chunk(put(with_data_size(WAV, 0)), 15000, 5000), whole[15000:20000])
    np.testing.assert_array_equal(read_chunk(put(WAV[44:], "x.pcm"), 15000, 5000, pcm_rate=8000), whole[15000:20000])


def test_read_chunk_refuses_what_is_not_there_or_not_finite(put):
    with pytest.raises(RecordingError, match="truncated: 100 samples from 31950 on wanted, 50 there"):
        read_chunk(put(WAV), 31950, 100)
    with pytest.raises(RecordingError, match="missing: no such file"):
        read_chunk("nowhere/x.wav", 0, 100)
    broken = SOUND.copy()
    broken[5000] = np.nan
    path = put(encode(broken, "WAV", "FLOAT"))
    assert len(read_chunk(path, 0, 5000)) == 5000
    with pytest.raises(RecordingError, match=r"not-finite: sample 1000 \(0.0625 s\) is nan"):
        read_chunk(path, 4000, 2000)
    with pytest.raises(RecordingError, match="unreadable: damaged after sample"):
        read_chunk(put(flipped(FLAC, len(FLAC) // 2)), 0, 32000)
    stereo = put(STEREO)
    with pytest.raises(RecordingError, match="channel-not-chosen: 2 channels"):
        read_chunk(stereo, 0, 100)
    np.testing.assert_allclose(read_chunk(stereo, 5000, 100, channel=1), -SOUND[5000:5100], atol=2 ** -14)


# --- options

@pytest.mark.parametrize("channel, expected", [(0, SOUND), (1, -0.5 * SOUND), ("mix", 0.25 * SOUND)])
def test_a_channel_is_chosen_or_mixed(put, channel, expected):
    path = put(encode(np.stack([SOUND, -0.5 * SOUND], 1), "FLAC"))
    np.testing.assert_allclose(load_audio(path, AudioOptions(channel=channel))[0], expected, atol=2 ** -14)


def test_a_channel_that_is_not_there(put):
    error = refusal(put(STEREO), AudioOptions(channel=2))
    assert (error.reason, error.detail) == ("channel-not-chosen", "no channel 2 among 2; they are counted from 0")
    assert refusal(put(WAV), AudioOptions(channel=1)).reason == "channel-not-chosen"
    for channel in (0, "mix"):
        assert len(load_audio(put(WAV), AudioOptions(channel=channel))[0]) == 32000


def test_a_mix_of_inverted_channels_is_silent(put):
    assert refusal(put(STEREO), AudioOptions(channel="mix")).reason == "silent"


def test_many_channels_and_many_blocks_are_joined_in_order(put, monkeypatch):
    monkeypatch.setattr(sound_file, "BLOCK", 3000)
    path = put(encode(np.stack([SOUND * gain for gain in (0.1, 0.2, 0.3, 0.4)], 1), "WAV", "FLOAT"))
    np.testing.assert_allclose(load_audio(path, AudioOptions(channel=3))[0], SOUND * 0.4, rtol=1e-6)


def test_lengths(put):
    assert len(load_audio(put(WAV), AudioOptions(min_duration_s=2.0, max_duration_s=2.0))[0]) == 32000
    error = refusal(put(WAV), AudioOptions(min_duration_s=2.01))
    assert (error.reason, error.detail) == ("too-short", "2.000 s; wanted at least 2.01 s")
    error = refusal(put(WAV), AudioOptions(max_duration_s=1.5))
    assert (error.reason, error.detail) == ("too-long", "2.0 s; wanted at most 1.5 s")
    claims_a_year = put(with_flac_total(FLAC, 2 ** 36 - 1), "x.flac")
    assert refusal(claims_a_year, AudioOptions(max_duration_s=3600)).reason == "too-long"


@pytest.mark.parametrize("options, message", [
    ({"channel": -1}, "channel is -1"), ({"channel": "left"}, "channel is 'left'"),
    ({"channel": True}, "channel is True"), ({"pcm_rate": 0}, "pcm_rate is 0"),
    ({"min_duration_s": -1.0}, "min_duration_s is -1.0"),
    ({"min_duration_s": float("nan")}, "min_duration_s is nan"), ({"max_duration_s": 0.1}, "max_duration_s is 0.1"),
])
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        AudioOptions(**options)


@pytest.mark.parametrize("data, least", [
    (WAV[:32045], 16000), (FLAC[:len(FLAC) // 2], 10000), (MP3[:len(MP3) // 2], 10000),
    (VORBIS[:len(VORBIS) // 2], 30000), (OPUS[:len(OPUS) // 2], 30000),
    (encode(SOUND, "NIST", "PCM_16")[:33025], 16000), (with_flac_total(FLAC, 2 ** 36 - 1), 30000),
], ids=["wav", "flac", "mp3", "vorbis", "opus", "sphere", "lying flac"])
def test_accept_truncated_takes_what_is_there_and_counts_it(put, data, least):
    notes = Counter()
    samples, _ = load_audio(put(data), CUT_ACCEPTED, notes=notes)
    assert len(samples) >= least and notes["cut"] == 1
    if data[:4] == b"fLaC":
        np.testing.assert_allclose(samples, SOUND[:len(samples)], atol=2 ** -15)


def test_accept_truncated_is_not_for_damage_inside(put):
    assert refusal(put(flipped(FLAC, len(FLAC) // 2)), CUT_ACCEPTED).reason == "unreadable"
    assert refusal(put(flipped(VORBIS, len(VORBIS) // 2)), CUT_ACCEPTED).reason == "unreadable"


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFF024])
def test_a_wav_from_a_pipe_is_read_to_its_end(put, size):
    notes = Counter()
    samples, _ = load_audio(put(with_data_size(WAV, size)), notes=notes)
    assert len(samples) == 32000 and notes == {"streamed": 1}
    assert scan_audio(put(with_data_size(WAV, size))).num_samples == 32000


def test_junk_and_tags_after_the_data_are_left_alone(put):
    for data in (WAV, FLAC, MP3, VORBIS, encode(SOUND, "NIST", "PCM_16")):
        assert len(load_audio(put(data + b"junk" * 25))[0]) == len(load_audio(put(data))[0])


def test_notes_are_counted_or_logged_once_each(put):
    loud = put(encode(30 * SOUND, "WAV", "FLOAT"), "loud.wav")
    short = put(encode(SOUND[5000:12000], "WAV"), "short.wav")
    notes = Counter()
    for path in (loud, short, short):
        load_audio(path, notes=notes)
    assert notes == {"over-range": 1, "short": 2}
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append((record.levelname, record.getMessage()))
    logger = logging.getLogger("speakerkit.io.audio")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        audio.say_notes(notes)
        load_audio(short)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert lines == [("WARNING", "1 recording: float samples beyond -1 to 1"),
                     ("WARNING", "2 recordings: shorter than 1 s: the embedding says little"),
                     ("INFO", f"{short}: shorter than 1 s: the embedding says little")]
