"""Stretches of a WAV read without a decoder are the decoder's, and all that isn't plain goes to the decoder."""

import os
import struct

import numpy as np
import pytest
import soundfile

from speakerkit.errors import RecordingError
from speakerkit.io.audio import read_chunk
from speakerkit.io.pcm_wave import find_pcm_wave

VALUES = np.random.default_rng(1).integers(-32768, 32768, (5000, 2)).astype(np.int16)
PLAIN = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
DATA = VALUES[:, 0].astype("<i2").tobytes()


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(data) if size is None else size) + data + b"\0" * (len(data) & 1)


def wave(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("num_channels, channel", [(1, None), (1, 0), (1, "mix"), (2, 0), (2, 1), (2, "mix")])
@pytest.mark.parametrize("first, count", [(0, 5000), (0, 1), (4999, 1), (123, 4000)])
def test_a_stretch_is_the_decoders_to_the_last_bit(tmp_path, num_channels, channel, first, count):
    path = tmp_path / "a.wav"
    soundfile.write(path, VALUES[:, :num_channels], 16000, subtype="PCM_16")
    found = find_pcm_wave(str(path))
    assert (found.num_samples, found.num_channels) == (5000, num_channels)
    samples = found.read(first, count, channel)
    assert samples.dtype == np.float32 and samples.flags.writeable and samples.flags.c_contiguous
    np.testing.assert_array_equal(samples, read_chunk(path, first, count, channel))


@pytest.mark.parametrize("chunks", [
    (chunk(b"LIST", b"INFOISFT\4\0\0\0odd"), chunk(b"fmt ", PLAIN), chunk(b"fact", b"1234"), chunk(b"data", DATA)),
    (chunk(b"fmt ", PLAIN + b"\0\0"), chunk(b"data", DATA), chunk(b"LIST", b"INFO"))], ids=["before", "after"])
def test_chunks_around_the_data_are_walked(tmp_path, chunks):
    path = tmp_path / "a.wav"
    path.write_bytes(wave(*chunks))
    found = find_pcm_wave(str(path))
    np.testing.assert_array_equal(found.read(7, 900), VALUES[7:907, 0] / np.float32(32768))
    np.testing.assert_array_equal(found.read(7, 900), read_chunk(path, 7, 900))


@pytest.mark.parametrize("data", [
    wave(chunk(b"fmt ", PLAIN), chunk(b"data", DATA, size=0xFFFFFFFF)),
    wave(chunk(b"fmt ", PLAIN), chunk(b"data", DATA[:-2000], size=len(DATA))),
    wave(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 16000, 1, 8)), chunk(b"data", DATA)),
    wave(chunk(b"fmt ", struct.pack("<HHIIHH", 3, 1, 16000, 64000, 4, 32)), chunk(b"data", DATA)),
    wave(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 64000, 4, 16)), chunk(b"data", DATA)),
    wave(chunk(b"fmt ", PLAIN[:10])), wave(chunk(b"data", DATA)), b"RIFX" + wave(chunk(b"fmt ", PLAIN))[4:], b"RI", b"",
], ids=["streamed", "cut", "8 bits", "float", "wide blocks", "no data", "no format", "big-endian", "short", "empty"])
def test_what_is_not_plain_is_not_taken(tmp_path, data):
    (tmp_path / "a.wav").write_bytes(data)
    assert find_pcm_wave(str(tmp_path / "a.wav")) is None


def test_a_file_that_has_changed_is_decoded_anew(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, VALUES, 16000, subtype="PCM_16")
    found, status = find_pcm_wave(str(path)), path.stat()
    soundfile.write(path, VALUES[::-1], 16000, subtype="PCM_16", endian="BIG")  # of the same size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert path.stat().st_size == status.st_size
    np.testing.assert_array_equal(found.read(0, 5000, 0), VALUES[::-1, 0] / np.float32(32768))
    path.unlink()
    with pytest.raises(RecordingError, match="missing: no such file"):
        found.read(0, 5000, 0)


def test_refusals_are_the_decoders(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, VALUES, 16000, subtype="PCM_16")
    found = find_pcm_wave(str(path))
    with pytest.raises(RecordingError, match="truncated: 100 samples from 4950 on wanted, 50 there"):
        found.read(4950, 100, 0)
    with pytest.raises(RecordingError, match="channel-not-chosen: 2 channels"):
        found.read(0, 100)
    with pytest.raises(RecordingError, match="no channel 2 among 2"):
        found.read(0, 100, 2)
