"""The lengths that containers declare: WAV chunks, Ogg pages, MPEG frames, SPHERE headers."""

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.errors import RecordingError
from speakerkit.io import audio, containers, mpeg, ogg, riff
from speakerkit.io.extent import Extent, MemoryBytes

SOUND = (0.1 * np.random.default_rng(1).standard_normal(96000)).astype(np.float32)


def chunk(name: bytes, data: bytes, order: str = "<") -> bytes:
    return name + struct.pack(order + "I", len(data)) + data + b"\0" * (len(data) & 1)


def wave(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


FORMAT = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16))
PCM = (SOUND[:8000] * 32767).astype("<i2").tobytes()
TAG = chunk(b"LIST", b"INFOISFT\4\0\0\0odd")


def extent(data: bytes) -> Extent | None:
    return containers.read_extent(MemoryBytes(data))


def encode_mp3(mode: str, level: float, num_samples: int = 32000) -> bytes:
    file = io.BytesIO()
    file.name = "x.mp3"
    with soundfile.SoundFile(file, "w", 16000, 1, format="MP3", bitrate_mode=mode, compression_level=level) as sound:
        sound.write(SOUND[:num_samples])
    return file.getvalue()


def without_first_frame(mp3: bytes) -> bytes:
    """An MP3 without its Xing header, as old encoders and stream recorders leave it."""
    return mp3[mpeg.read_frame(MemoryBytes(mp3), 0).length:]


# --- WAV

@pytest.mark.parametrize("data", [
    wave(FORMAT, chunk(b"data", PCM)), wave(TAG, FORMAT, TAG, chunk(b"data", PCM), TAG),
    wave(FORMAT, chunk(b"data", PCM)) + b"trailing junk"], ids=["plain", "tags around", "junk after"])
def test_chunks_around_the_data_are_walked(data):
    assert extent(data) == Extent()
    assert len(audio.load_audio(data)[0]) == 8000


def test_a_chunk_list_after_an_empty_data_chunk_is_not_sound():
    for tail in (b"", TAG, TAG + TAG, TAG[:-1]):  # the last pad byte may be missing
        with pytest.raises(RecordingError, match="empty"):
            audio.load_audio(wave(FORMAT, chunk(b"data", b""), tail))
    assert extent(wave(FORMAT, b"data\0\0\0\0", PCM)).data_bytes == len(PCM)


def test_big_endian_wav():
    body = b"WAVE" + chunk(b"fmt ", struct.pack(">HHIIHH", 1, 1, 16000, 32000, 2, 16), ">")
    big = np.frombuffer(PCM, "<i2").astype(">i2").tobytes()
    data = b"RIFX" + struct.pack(">I", 0) + body + chunk(b"data", big, ">")
    expected, _ = audio.load_audio(wave(FORMAT, chunk(b"data", PCM)))
    np.testing.assert_array_equal(audio.load_audio(data)[0], expected)
    assert extent(data[:-10]).cut == "15990 of 16000 data bytes"
    streamed = b"RIFX" + struct.pack(">I", 0) + body + b"data\xff\xff\xff\xff" + big
    np.testing.assert_array_equal(audio.load_audio(streamed)[0], expected)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"RIFF\0\0\0\0WAVE", b"RF64\0\0\0\0WAVE", b"NIST_1A\n   1024\n",
                                                 b"OggS\0\4", b"\xff\xfb\x90\0", b"ID3\4\0\0\0\0\0\1", b"fLaC", b""]))
def test_any_bytes_are_refused_in_our_words(tail, head):
    with pytest.raises(RecordingError) as caught:
        audio.load_audio(head + tail)
    assert caught.value.reason in ("empty", "truncated", "unreadable", "unsupported-format", "bad-sample-rate",
                                   "channel-not-chosen", "too-short", "silent")


def test_a_walk_ends_on_chunks_without_end():
    assert riff.read_wave(MemoryBytes(b"RIFF\0\0\0\0WAVE" + chunk(b"junk", b"") * 5000)) is None


# --- SPHERE

def sphere(num_samples: int, extra: str = "") -> bytes:
    text = (f"NIST_1A\n   1024\nchannel_count -i 1\nsample_rate -i 16000\nsample_n_bytes -i 2\n"
            f"sample_byte_format -s2 01\nsample_coding -s3 pcm\nsample_count -i {num_samples}\n{extra}end_head\n")
    return text.encode().ljust(1024) + PCM


def test_sphere_counts_its_samples():
    assert extent(sphere(8000)) == Extent(num_samples=8000)
    assert extent(sphere(9000)).cut == "16000 of 18000 data bytes"
    assert len(audio.load_audio(sphere(8000) + b"trailing junk!")[0]) == 8000
    assert extent(sphere(8000).replace(b"sample_count", b"sample_cuont")) is None


# --- Ogg

OGG = {}
for subtype in ("VORBIS", "OPUS"):
    file = io.BytesIO()
    soundfile.write(file, SOUND, 16000, format="OGG", subtype=subtype)
    OGG[subtype] = file.getvalue()


def page_starts(data: bytes) -> list[int]:
    starts = [0]
    while starts[-1] < len(data):
        starts.append(starts[-1] + ogg.page_length(data[starts[-1]:starts[-1] + 300]))
    return starts


@pytest.mark.parametrize("data", OGG.values(), ids=OGG)
def test_ogg_pages(data):
    starts = page_starts(data)
    assert len(starts) > 5 and starts[-1] == len(data)
    assert extent(data) == Extent() and ogg.find_damage(MemoryBytes(data)) == ""
    assert ogg.find_damage(MemoryBytes(data + b"ID3 and junk")) == ""
    cut = extent(data[:starts[-2]])
    assert cut == Extent(cut="its last Ogg page is missing", usable_bytes=starts[-2])
    assert extent(data[:starts[-2] + 50]) == cut
    missing = data[:starts[3]] + data[starts[4]:]
    assert ogg.find_damage(MemoryBytes(missing)) == f"Ogg pages are missing before byte {starts[3]}"
    garbled = data[:starts[3]] + b"oops" + data[starts[3] + 4:]
    assert ogg.find_damage(MemoryBytes(garbled)) == f"no whole Ogg page at byte {starts[3]}"


@pytest.mark.parametrize("data", OGG.values(), ids=OGG)
def test_a_byte_changed_in_any_page_is_found(data):
    for start in page_starts(data)[:-1]:
        place = start + 8  # in the page's position; its checksum covers header and data
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1:]
        assert ogg.find_damage(MemoryBytes(changed)) == f"the Ogg page at byte {start} has a wrong checksum"
        with pytest.raises(RecordingError, match="unreadable"):
            audio.load_audio(changed)


# --- MP3

@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize("level", [0.0, 0.5])
def test_mpeg_frames_are_counted(mode, level):
    data = encode_mp3(mode, level)
    assert extent(data) == Extent()
    assert extent(b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + data + b"TAG" + bytes(125)) == Extent()
    assert extent(data[:-1]).cut == "ends inside an MPEG frame"
    bare = without_first_frame(data)
    assert extent(bare) == Extent(num_samples=58 * 576)  # 32,000 samples, the encoder's delay, the last frame filled
    assert extent(bare + b"TAG" + bytes(125)) == extent(bare)


def test_mp3_without_a_length_at_a_constant_rate_is_whole():
    bare = without_first_frame(encode_mp3("CONSTANT", 0.5))
    for data in (bare, bare + b"TAG" + bytes(125), bare + b"APETAGEX" + bytes(500)):
        assert len(audio.load_audio(data)[0]) == 58 * 576  # libsndfile's estimate counts the tag as sound
    with pytest.raises(RecordingError, match="truncated: ends inside an MPEG frame"):
        audio.load_audio(bare[:-1])


def test_mp3_without_a_length_at_a_variable_rate_is_never_read_short():
    bare = without_first_frame(encode_mp3("VARIABLE", 0.5))
    try:
        samples, _ = audio.load_audio(bare)
    except RecordingError as error:
        assert "MP3 of variable bit rate without a length (no Xing header); re-encode it: ffmpeg" in str(error)
    else:  # noise leaves the encoder little to vary
        assert len(samples) == 58 * 576
    speech_like = np.concatenate([SOUND[:8000], np.zeros(40000, np.float32), SOUND[:8000]])
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 16000, 1, format="MP3", bitrate_mode="VARIABLE") as sound:
        sound.write(speech_like)
    with pytest.raises(RecordingError, match="unreadable: MP3 of variable bit rate without a length"):
        audio.load_audio(without_first_frame(file.getvalue()))


def test_mpeg_headers_by_hand():
    # ff fb 90 00: MPEG-1 layer III, 128 kbit/s, 44.1 kHz, no padding: 144 * 128000 / 44100 = 417 bytes
    assert mpeg.read_frame(MemoryBytes(b"\xff\xfb\x90\x00"), 0) == mpeg.Frame(417, 1152, 12)
    # ff f3 84 c4: MPEG-2, 64 kbit/s, 24 kHz: 72 * 64000 / 24000 = 192; ff e3: MPEG-2.5, 12 kHz: 384
    assert mpeg.read_frame(MemoryBytes(b"\xff\xf3\x84\xc4"), 0).length == 192
    assert mpeg.read_frame(MemoryBytes(b"\xff\xe3\x84\xc4"), 0).length == 384
    assert mpeg.read_frame(MemoryBytes(b"\xff\xfb\x92\x00"), 0).length == 418  # padded
    for no_frame in (b"\xff\xfb\xf0\x00", b"\xff\xfb\x00\x00", b"\xff\xfd\x90\x00", b"\xff\xfb\x9c\x00", b"RIFF", b""):
        assert mpeg.read_frame(MemoryBytes(no_frame), 0) is None
