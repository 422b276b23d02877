"""Voiceprint files: written and read again, and everything that is no such file."""

import os

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from speakerkit.errors import DataError
from speakerkit.io import voiceprints
from speakerkit.io.voiceprints import VoiceprintFile, VoiceRecording, read_voiceprints, write_voiceprints


def make(counts=(2, 1, 3), dim=8, names=None):
    places = [place for place, count in enumerate(counts) for _ in range(count)]
    recordings = tuple(VoiceRecording(place, f"/a/{number}.wav" if number % 2 else "", f"{number:064x}", 1.5 + number,
                                      {"channel": "mix"} if number == 1 else {})
                       for number, place in enumerate(places))
    embeddings = np.random.default_rng(1).standard_normal((len(places), dim)).astype(np.float32)
    names = names or [f"s{number}" for number in range(len(counts))]
    return VoiceprintFile("small", "f" * 64, tuple(names), recordings, embeddings)


def same(a, b):
    return (a.model, a.model_sha256, a.speakers, a.recordings) == (b.model, b.model_sha256, b.speakers, b.recordings) \
        and np.array_equal(a.embeddings, b.embeddings)


@pytest.mark.parametrize("voices", [make(), make((1,)), make(()), make((1, 1), names=["王", "ö-1"])])
def test_what_is_written_is_read(tmp_path, voices):
    write_voiceprints(tmp_path / "v", voices)
    assert same(read_voiceprints(tmp_path / "v"), voices)


def test_cut_anywhere_it_is_refused(tmp_path):
    write_voiceprints(tmp_path / "v", make((1, 1), dim=2))
    data = (tmp_path / "v").read_bytes()
    for length in range(len(data)):
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(DataError, match="is no voiceprint file, or cut"):
            read_voiceprints(tmp_path / "cut")


def test_no_bit_flips_unseen(tmp_path):
    write_voiceprints(tmp_path / "v", make((1, 1), dim=2))
    data = bytearray((tmp_path / "v").read_bytes())
    for place in range(len(data)):
        data[place] ^= 1
        (tmp_path / "flipped").write_bytes(data)
        data[place] ^= 1
        with pytest.raises(DataError):
            read_voiceprints(tmp_path / "flipped")


@given(st.binary(max_size=300))
def test_any_bytes_give_a_data_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    with pytest.raises(DataError):
        read_voiceprints(path)


def test_other_files(tmp_path):
    with pytest.raises(DataError, match="no such voiceprint file; enrol-speakers makes one"):
        read_voiceprints(tmp_path / "v")
    os.mkfifo(tmp_path / "fifo")
    for place in (tmp_path, tmp_path / "fifo", "/dev/null"):
        with pytest.raises(DataError, match="is no regular file; want a voiceprint file"):
            read_voiceprints(place)
    (tmp_path / "other").write_bytes(safetensors.numpy.save({"a": np.zeros(2)}, {"kind": "something"}))
    with pytest.raises(DataError, match="is no voiceprint file, but another safetensors"):
        read_voiceprints(tmp_path / "other")
    for text, message in [('{"format": 9}', "is of format 9; this speakerkit reads format 1"),
                          ("[]", "damaged: its metadata can't be read"), ("[" * 5000, "damaged: its metadata")]:
        (tmp_path / "odd").write_bytes(safetensors.numpy.save({"a": np.zeros(2)}, {voiceprints.METADATA_KEY: text}))
        with pytest.raises(DataError, match=message):
            read_voiceprints(tmp_path / "odd")


def forged(path, **changes):
    """A file with a right SHA-256 over wrong content: made by somebody, not damaged."""
    voices = make()
    tensors = {"embeddings": voices.embeddings.copy(), "speaker": np.array([0, 0, 1, 2, 2, 2], np.int32),
               "text": np.frombuffer(voiceprints._to_text(voices), np.uint8)} | changes
    facts = {"format": 1, "model": "small", "model_sha256": tensors.pop("model_sha256", "f" * 64)}
    path.write_bytes(voiceprints._to_bytes(tensors, facts))
    return path


def as_text(text):
    return np.frombuffer(text.encode(), np.uint8)


@pytest.mark.parametrize("changes, message", [
    ({}, None),
    ({"speaker": np.array([0, 0, 1, 2, 2, 3], np.int32)}, "speakers and recordings don't fit"),
    ({"speaker": np.array([0, 1, 0, 2, 2, 2], np.int32)}, "speakers and recordings don't fit"),
    ({"speaker": np.array([-1, 0, 1, 2, 2, 2], np.int32)}, "speakers and recordings don't fit"),
    ({"speaker": np.zeros(6, np.int32)}, "speakers and recordings don't fit"),
    ({"speaker": np.zeros(5, np.int32)}, "6 recordings, 5 places, 6 embeddings"),
    ({"speaker": np.zeros(6)}, "of another type or shape"),
    ({"embeddings": np.ones((6, 8))}, "of another type or shape"),
    ({"embeddings": np.zeros((6, 8), np.float32)}, "an embedding is zero or not finite"),
    ({"embeddings": np.full((6, 8), np.nan, np.float32)}, "an embedding is zero or not finite"),
    ({"model_sha256": "f"}, "its model is 'small', 'f'"),
    ({"text": as_text("{")}, "damaged: "),
    ({"text": as_text("[]")}, "damaged: "),
    ({"text": as_text("[" * 5000)}, "damaged: "),
    ({"text": as_text('{"speakers": ["a", "a", "b"], "recordings": [1, 2, 3, 4, 5, 6]}')}, "a speaker is there twice"),
    ({"text": as_text('{"speakers": ["a b", "c", "d"], "recordings": [1, 2, 3, 4, 5, 6]}')}, "U+0020"),
    ({"text": as_text('{"speakers": ["a", "b", 3], "recordings": [1, 2, 3, 4, 5, 6]}')}, "speaker is 3; want a word"),
    ({"text": as_text('{"speakers": ["a", "b", "c"], "recordings": [1, 2, 3, 4, 5, 6]}')}, "damaged: "),
    ({"text": as_text('{"speakers": ["a", "b", "c"], "recordings": [' + ", ".join(['[3, "", 1, {}]'] * 6) + "]}")},
     "a recording is described by 3, '', 1, {}"),
])
def test_forged_files(tmp_path, changes, message):
    path = forged(tmp_path / "v", **changes)
    if message is None:
        assert same(read_voiceprints(path), make())
        return
    with pytest.raises(DataError) as caught:
        read_voiceprints(path)
    assert message in str(caught.value)
