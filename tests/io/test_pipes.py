"""Shell pipes in a wav.scp: refused, unless allowed; then no failure of theirs goes unseen."""

import shlex

import numpy as np
import pytest
import soundfile

from speakerkit.errors import RecordingError
from speakerkit.io import audio, pipes
from speakerkit.io.audio import AudioInfo, AudioOptions, load_audio, scan_audio

ALLOWED = AudioOptions(allow_pipes=True)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "a b.wav"
    noise = 0.1 * np.random.default_rng(1).standard_normal(16000)
    soundfile.write(path, noise, 16000)
    return path


@pytest.mark.parametrize("entry", ["cat {} |", " cat {} | ", "| cat {}", "cat {}|"])
def test_a_pipe_is_refused_and_not_run(tmp_path, entry):
    mark = tmp_path / "ran"
    entry = entry.format("x; touch " + str(mark))
    for read in (load_audio, scan_audio):
        with pytest.raises(RecordingError, match="pipe-refused: a shell pipe; it runs only with --allow-pipes"):
            read(entry)
    assert not mark.exists()


def test_an_allowed_pipe_gives_the_samples(recording):
    expected, _ = load_audio(recording)
    entry = f"cat {shlex.quote(str(recording))} |"
    np.testing.assert_array_equal(load_audio(entry, ALLOWED)[0], expected)
    np.testing.assert_array_equal(load_audio(entry, ALLOWED, start_s=0.25)[0], expected[4000:])
    assert scan_audio(entry, ALLOWED) == AudioInfo(0, 0, 0, "PIPE")  # not run for a look at its header
    with pytest.raises(RecordingError, match="pipe-refused: a pipe that writes"):
        load_audio(f"| {entry}", ALLOWED)


@pytest.mark.parametrize("entry, words", [
    ("cat {wav}; exit 3 |", "exit status 3"),
    ("cat {wav}; echo first >&2; echo 'no such device' >&2; exit 3 |", "exit status 3: 'no such device'"),
    ("cat nowhere.wav | cat |", "exit status 1: .*nowhere.wav"),  # the first of two parts fails
    ("cat {wav}; kill -9 $$ |", "exit status -9"),
    ("no_such_command_here x |", "exit status 127: .*no_such_command_here"),
])
def test_a_command_that_fails_is_told_even_if_it_wrote_all(recording, entry, words):
    with pytest.raises(RecordingError, match=f"pipe-failed: {words}"):
        load_audio(entry.format(wav=shlex.quote(str(recording))), ALLOWED)


@pytest.mark.parametrize("entry, reason", [
    ("true |", "empty"), ("echo hello |", "unsupported-format"), ("head -c 1000 {wav} |", "truncated")])
def test_what_a_pipe_writes_is_checked_like_a_file(recording, entry, reason):
    with pytest.raises(RecordingError) as caught:
        load_audio(entry.format(wav=shlex.quote(str(recording))), ALLOWED)
    assert caught.value.reason == reason and caught.value.path == entry.format(wav=shlex.quote(str(recording)))


def test_time_and_size_are_limited_and_children_ended(tmp_path):
    with pytest.raises(RecordingError, match="pipe-failed: still running after 0.2 s"):
        pipes.read_pipe(f"sh -c 'sleep 30; touch {tmp_path}/late' & wait |", timeout_s=0.2)
    with pytest.raises(RecordingError, match="pipe-failed: wrote more than 100000 bytes"):
        pipes.read_pipe("cat /dev/zero |", max_bytes=100000)
    assert not (tmp_path / "late").exists()


def test_a_streamed_wav_out_of_a_pipe(recording):
    data = recording.read_bytes()
    streamed = recording.with_name("streamed.wav")
    streamed.write_bytes(data[:40] + b"\0\0\0\0" + data[44:])
    assert len(load_audio(f"cat {streamed} |", ALLOWED)[0]) == 16000
    assert audio.NOTES["streamed"]
