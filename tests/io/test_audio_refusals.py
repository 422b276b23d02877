"""Recordings that are refused: each with its reason, its words, and the exit code a command makes of it."""

import concurrent.futures
import io
import logging
import os
import pickle
import re
import signal
import struct
from collections import Counter

import numpy as np
import pytest
import soundfile

from speakerkit.cli import entry
from speakerkit.errors import MachineError, RecordingError
from speakerkit.io import sound_file
from speakerkit.io.audio import AudioOptions, load_audio, scan_audio

RATE = 16000
DEFAULT = AudioOptions()


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


# --- what is refused: the reason, the words; exit code 1 by the commands

STEREO = encode(np.stack([SOUND, -SOUND], 1), "WAV")
NOT_FINITE = SOUND.copy()
NOT_FINITE[5000] = np.nan
INFINITE = SOUND.copy()
INFINITE[16000] = -np.inf
CLICK = np.zeros(32000, np.float32)
CLICK[16000] = 0.9
OFFSET_STEP = np.where(np.arange(32000) < 16000, 0.0, 0.5).astype(np.float32)
DITHER = np.round(np.random.default_rng(1).standard_normal(32000)).astype(np.float32) / 32768

REFUSED = {
    "no bytes": (b"", "empty", "0 bytes"),
    "header only": (with_data_size(WAV, 0)[:44], "empty", "a header without samples"),
    "streamed header only": (with_data_size(WAV, 0xFFFFFFFF)[:44], "empty", "a header without samples"),
    "size 0 and a tag": (with_data_size(WAV, 0)[:44] + b"LIST\4\0\0\0abcd", "empty", "a header without samples"),
    "half a WAV": (WAV[:32022], "truncated", "31978 of 64000 data bytes"),
    "cut in a sample": (WAV[:-1], "truncated", "63999 of 64000 data bytes"),
    "cut in the header": (WAV[:30], "truncated", "30 bytes end inside the header"),
    "half an RF64": (encode(SOUND, "RF64", "PCM_16")[:32104], "truncated", "32000 of 64000 data bytes"),
    "half a SPHERE": (encode(SOUND, "NIST", "PCM_16")[:33024], "truncated", "32000 of 64000 data bytes"),
    "half a FLAC": (FLAC[:len(FLAC) // 2], "truncated", r"\d+ of 32000 samples"),
    "half a Vorbis": (VORBIS[:len(VORBIS) // 2], "truncated", "its last Ogg page is missing"),
    "half an Opus": (OPUS[:len(OPUS) // 2], "truncated", "its last Ogg page is missing"),
    "half an MP3": (MP3[:len(MP3) // 2], "truncated", "(ends inside an MPEG frame|28 of 58 MPEG frames)"),
    "damaged FLAC": (flipped(FLAC, len(FLAC) // 2), "unreadable", r"damaged after \d+ of 32000 samples: .*lost sync.*"),
    "damaged Vorbis": (flipped(VORBIS, len(VORBIS) // 2), "unreadable",
                       r"damaged: the Ogg page at byte \d+ has a wrong checksum"),
    "damaged Opus": (flipped(OPUS, len(OPUS) // 2), "unreadable", "damaged: the Ogg page .*"),
    "FLAC to a pipe": (with_flac_total(FLAC, 0), "unreadable",
                       r"FLAC without a length; re-encode it: flac --force .*x\.wav"),
    "a year of FLAC": (with_flac_total(FLAC, 2 ** 36 - 1), "truncated", r"\d+ of 68719476735 samples"),
    "no data chunk": (WAV[:36] + b"tada" + WAV[40:], "unreadable", "damaged: .*"),
    "rate 0": (WAV[:24] + bytes(4) + WAV[28:], "unreadable", "damaged: .*"),
    "no channels": (WAV[:22] + bytes(2) + WAV[24:], "unreadable", "damaged: .*"),
    "65535 channels": (WAV[:22] + b"\xff\xff" + WAV[24:], "unreadable", "damaged: .*"),
    "rate 1": (encode(SOUND, "WAV", rate=1), "bad-sample-rate", "1 Hz; want 4000 to 192000 Hz"),
    "rate 384k": (encode(SOUND, "WAV", rate=384000), "bad-sample-rate", "384000 Hz; want 4000 to 192000 Hz"),
    "web page": (b"\xef\xbb\xbf <!DOCTYPE html><html>", "unsupported-format", "looks like HTML or XML.*<!DOCTYPE.*"),
    "web answer": (b'{"error": 404}', "unsupported-format", "looks like JSON.*404.*"),
    "text": (b"this is no sound", "unsupported-format", "begins b'this is no sound', as no audio format does; want .*"),
    "M4A": (b"\0\0\0\x20ftypM4A \0\0\0\0", "unsupported-format",
            r"is M4A/MP4 \(AAC\); want WAV, FLAC, OGG/Opus, MP3 or raw \.pcm, or convert it: ffmpeg -i .*"),
    "WebM": (b"\x1a\x45\xdf\xa3" + bytes(60), "unsupported-format", "is WebM/Matroska; .*ffmpeg.*"),
    "AMR": (b"#!AMR\n" + bytes(60), "unsupported-format", "is AMR; .*ffmpeg.*"),
    "AVI": (b"RIFF\0\0\0\0AVI LIST", "unsupported-format", "is RIFF of kind 'AVI '; .*"),
    "zip": (b"PK\3\4" + bytes(60), "unsupported-format", "is a gzip or zip archive; .*"),
    "AIFF": (encode(SOUND, "AIFF"), "unsupported-format", r"is AIFF .*; want WAV.*"),
    "NaN": (encode(NOT_FINITE, "WAV", "FLOAT"), "not-finite", r"sample 5000 \(0\.3125 s\) is nan"),
    "infinite": (encode(INFINITE, "WAV", "DOUBLE"), "not-finite", r"sample 16000 \(1\.0000 s\) is -inf"),
    "16-bit scale": (encode(20000 * SOUND / np.abs(SOUND).max(), "WAV", "FLOAT"), "unsupported-format",
                     r"peak is 20000, float samples in the 16-bit scale; want -1 to 1 \(divide by 32768\)"),
    "zeros": (encode(np.zeros(32000), "WAV"), "silent", "0.00 s above .*; wanted at least 0.1 s .*"),
    "offset only": (encode(np.full(32000, 0.3), "WAV"), "silent", "0.00 s above .*"),
    "a step of the offset": (encode(OFFSET_STEP, "WAV"), "silent", "0.00 s above .*"),
    "one click": (encode(CLICK, "WAV"), "silent", "0.02 s above .*"),
    "a click beside an offset": (encode(CLICK * 0.5 + 0.2, "WAV", "FLOAT"), "silent", "0.02 s above .*"),
    "dither": (encode(DITHER, "WAV"), "silent", "0.00 s above .*"),
    "6 ms": (encode(SOUND[5000:5100], "WAV"), "too-short", r"0\.006 s; wanted at least 0\.3 s"),
    "two channels": (STEREO, "channel-not-chosen", r"2 channels; give --channel N \(0 to 1\) or --channel mix"),
}


@pytest.mark.parametrize("data, reason, detail", REFUSED.values(), ids=REFUSED)
def test_refused_with_reason_and_words(put, data, reason, detail):
    error = refusal(put(data))
    assert error.reason == reason
    assert re.fullmatch(detail, error.detail, re.DOTALL), error.detail
    assert "\n" not in str(error)
    in_memory = refusal(data)
    assert in_memory.reason == reason


@pytest.fixture
def listen(capsys):
    """``listen(path)`` loads a recording as a command would; returns exit code and stderr."""
    log = logging.getLogger("speakerkit")
    before, handler = (log.handlers[:], log.level, log.propagate), signal.getsignal(signal.SIGTERM)

    def command(path: str, *options: str) -> tuple[int, str]:
        parser = entry.make_parser("listen", "Load one recording.", "listen x.wav")
        parser.add_argument("path")
        entry.add_audio_options(parser)
        code = entry.run(parser, lambda args: load_audio(args.path, entry.audio_options(args)), [path, *options])
        return code, capsys.readouterr().err

    yield command
    log.handlers[:], log.level, log.propagate = before
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize("data, reason, detail", REFUSED.values(), ids=REFUSED)
def test_a_command_tells_it_in_one_line_and_exits_1(put, listen, data, reason, detail):
    path = put(data)
    code, told = listen(path)
    assert code == 1
    assert told.startswith(f"listen: {path}: {reason}: ") and told.count("\n") == 1


def test_what_is_no_regular_file(tmp_path, listen):
    os.mkfifo(tmp_path / "fifo")  # opening it to read would wait for a writer for ever
    for path, reason, detail in (
        (str(tmp_path), "not-a-file", "is a folder; want a regular file"),
        (str(tmp_path / "fifo"), "not-a-file", "is a FIFO; want a regular file"),
        ("/dev/null", "not-a-file", "is a device; want a regular file"),
        (str(tmp_path / "no.wav"), "missing", "no such file"),
        (str(tmp_path / "fifo" / "x.wav"), "missing", "no such file"),
        ("nowhere/x.wav", "missing", f"no such file: {os.getcwd()}/nowhere/x.wav"),
        ("~/x.wav", "missing", f"no such file; '~' isn't expanded here: write {os.path.expanduser('~/x.wav')}"),
        ("a\0b.wav", "missing", "a path with a NUL byte or that can't be encoded"),
    ):
        error = refusal(path)
        assert (error.reason, error.detail) == (reason, detail)
        assert listen(path)[0] == 1


def test_a_file_that_may_not_be_read_is_unreadable(put, monkeypatch):
    path = put(WAV)

    def refuse(*_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(sound_file.os, "open", refuse)  # root may read whatever its mode says
    error = refusal(path)
    assert (error.reason, error.detail) == ("unreadable", "Permission denied")


def test_too_many_open_files_is_the_machines_fault(put, listen, monkeypatch):
    path = put(WAV)

    def refuse(*_):
        raise OSError(24, "Too many open files", path)

    monkeypatch.setattr(sound_file.os, "open", refuse)
    with pytest.raises(MachineError, match="Too many open files"):
        load_audio(path)
    assert listen(path)[0] == 75


def test_a_disk_that_fails_while_reading_is_told_as_unreadable(put, monkeypatch):
    path = put(WAV)

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("speakerkit.io.extent.os.pread", fail)
    assert str(refusal(path)) == f"{path}: unreadable: at byte 0: Input/output error"


# --- truncation at every byte: an error or all samples, never fewer

BRIEF = make_sound(6000, seed=2)


@pytest.mark.parametrize("data, slack", [
    (encode(BRIEF, "WAV", "PCM_16"), 0), (encode(BRIEF, "WAVEX", "PCM_24"), 0), (encode(BRIEF, "RF64", "PCM_16"), 0),
    (encode(BRIEF, "NIST", "PCM_16"), 0), (encode(BRIEF, "FLAC"), 0), (encode(BRIEF, "OGG", "VORBIS"), 0),
    (encode(BRIEF, "OGG", "OPUS"), 0),
    (encode(BRIEF, "MP3"), 576),  # whether the frame that holds the count is in it differs between encoders
], ids=["wav", "wavex", "rf64", "sphere", "flac", "vorbis", "opus", "mp3"])
def test_cut_at_any_byte_is_never_a_shorter_recording(data, slack):
    whole, _ = load_audio(data)
    ends = {*range(0, len(data), max(1, len(data) // 300)), *range(len(data) - 100, len(data))}
    reasons = Counter()
    for end in sorted(ends):
        try:
            samples, _ = load_audio(data[:end])
        except RecordingError as error:
            reasons[error.reason] += 1
        else:
            assert len(samples) >= len(whole) - slack
    assert set(reasons) <= {"empty", "truncated", "unreadable", "unsupported-format"}
    assert reasons["truncated"] > 0.8 * len(ends)


# --- errors cross process borders whole (B37)

def fail_to_load(path: str) -> None:
    load_audio(path)


def test_a_refusal_keeps_its_words_across_processes(put):
    path = put(flipped(FLAC, len(FLAC) // 2))
    with concurrent.futures.ProcessPoolExecutor(1) as pool, pytest.raises(RecordingError) as caught:
        pool.submit(fail_to_load, path).result()
    assert caught.value.reason == "unreadable" and path in str(caught.value) and "lost sync" in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.path, again.reason, again.detail) == (path, "unreadable", caught.value.detail)


def test_an_error_without_words_is_still_an_error(put, monkeypatch):
    def garble(*_, **__):
        raise soundfile.LibsndfileError(0)

    monkeypatch.setattr(sound_file.soundfile, "SoundFile", garble)  # code 0: python-soundfile#479
    assert refusal(put(WAV)).reason == "unreadable"

    class Unprintable(soundfile.SoundFileError):
        def __str__(self):
            raise TypeError("an integer is required")  # python-soundfile#428

    assert sound_file.sound_error(Unprintable()) == "Unprintable"
