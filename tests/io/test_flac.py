"""How long a recording is, by the first bytes of its file."""

import numpy as np
import pytest
import soundfile

from speakerkit.errors import RecordingError
from speakerkit.io.audio import read_length
from speakerkit.io.flac import HEAD_BYTES, read_stream_info


@pytest.mark.parametrize("rate, channels, subtype", [
    (16000, 1, "PCM_16"), (48000, 2, "PCM_24"), (4000, 8, "PCM_S8"), (44100, 1, "PCM_16")])
@pytest.mark.parametrize("num_samples", [1, 4096, 70001])
def test_flac(tmp_path, rate, channels, subtype, num_samples):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros((num_samples, channels)), rate, subtype=subtype)
    assert read_stream_info(path.read_bytes()[:HEAD_BYTES]) == (num_samples, rate) == read_length(path)


def test_other_formats_are_asked_of_their_own_readers(tmp_path):
    for name in ("a.wav", "a.ogg"):
        soundfile.write(tmp_path / name, 0.1 * np.ones((8000, 2)), 16000)
        assert read_length(tmp_path / name) == (8000, 16000)


def test_what_the_first_bytes_dont_say(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros(800), 16000)
    head = bytearray(path.read_bytes()[:HEAD_BYTES])
    assert all(read_stream_info(bytes(head[:count])) is None for count in range(HEAD_BYTES))
    head[21] &= 0xF0
    head[22:26] = bytes(4)  # a length of 0: not known
    assert read_stream_info(bytes(head)) is None
    assert read_stream_info(b"ID3" + bytes(60)) is None


@pytest.mark.parametrize("make, reason", [
    (lambda path: None, "missing"), (lambda path: path.mkdir(), "not-a-file"),
    (lambda path: path.write_bytes(b""), "empty"), (lambda path: path.write_bytes(b"<html>"), "unsupported-format")])
def test_refusals(tmp_path, make, reason):
    make(tmp_path / "a.flac")
    with pytest.raises(RecordingError) as caught:
        read_length(tmp_path / "a.flac")
    assert caught.value.reason == reason
