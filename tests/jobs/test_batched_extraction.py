"""Extraction as on a GPU, on a CPU in its place: the same embeddings, refusals and parts as one by one."""

import functools
import json
import signal

import kaldiio
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from speakerkit.errors import RecordingError
from speakerkit.features.resample import resample
from speakerkit.inference.throughput import measure_peak
from speakerkit.io import audio, audio_stream
from speakerkit.jobs import batched_extraction, decoding, embedding_parts, parts, utterance_embedding
from speakerkit.jobs.utterances import Utterance


@pytest.fixture(autouse=True)
def in_batches(monkeypatch):
    """Parts of five recordings, windows of 1.5 s, in batches though the device is a CPU."""
    monkeypatch.setattr(parts, "PART_UTTERANCES", 5)
    monkeypatch.setattr(decoding, "WINDOW_S", 1.5)
    monkeypatch.setattr(embedding_parts, "_takes_batches", lambda choice: True)
    monkeypatch.setattr(batched_extraction, "measure_peak", functools.partial(measure_peak, rows=64))


@pytest.fixture
def one_by_one(monkeypatch):
    """``one_by_one()``: from here on as on a CPU."""
    return lambda: monkeypatch.setattr(embedding_parts, "_takes_batches", lambda choice: False)


@pytest.fixture
def extract(extract_with):
    """``extract(data, ark, *options)`` with two workers unless told."""
    return extract_with(2)


def read_both(folder, name="emb"):
    return (folder / f"{name}.ark").read_bytes(), (folder / f"{name}.scp").read_bytes()


def check_alike(folder, first, second):
    """Both archives hold the same utterances in the same order, and the same embeddings up to other kernels."""
    first, second = (dict(kaldiio.load_ark(str(folder / f"{name}.ark"))) for name in (first, second))
    assert list(first) == list(second)
    for utt_id, embedding in first.items():
        other = second[utt_id]
        assert embedding @ other / np.linalg.norm(embedding) / np.linalg.norm(other) >= 0.999999
        np.testing.assert_allclose(embedding, other, rtol=1e-3, atol=1e-4 * np.abs(other).max())


def add_recording(data, utt_id, samples, rate):
    path = data / "wav" / f"{utt_id}.wav"
    soundfile.write(path, samples, rate, subtype="PCM_16")
    with open(data / "wav.scp", "a") as stream:
        stream.write(f"{utt_id} {path}\n")


def test_many_at_once_are_one_by_one(extract, make_data, tmp_path, one_by_one, speech_files):
    data = make_data(11)
    for number, rate in enumerate((8000, 44100)):
        samples, _ = soundfile.read(list(speech_files.values())[number][0], dtype="float32")
        add_recording(data, f"z{number}-speech", resample(samples, 16000, rate), rate)
    ended = extract(data, tmp_path / "emb.ark", "--json", tmp_path / "j.json")
    assert ended.code == 0, ended.err
    report = json.loads((tmp_path / "j.json").read_text())
    assert (report["num_utterances"], report["num_bad"]) == (13, 0)
    assert report["utterances_per_second"] > 0 and 0 <= report["waiting_share"] <= 1
    assert report["network_tflops"] > 0 and report["peak_share"] > 0 and 0 <= report["padding_share"] < 1
    lines = [line for line in ended.err.splitlines() if "utterances/s" in line or "TFLOP/s" in line]
    assert "% of the time spent waiting for recordings" in lines[0] and "that a matrix product reaches" in lines[1]
    assert "resampled 1 recording from 8000 Hz to 16000 Hz" in ended.err
    one_by_one()
    ended = extract(data, tmp_path / "plain.ark", "--json", tmp_path / "plain.json")
    assert ended.code == 0 and "TFLOP/s" not in ended.err
    check_alike(tmp_path, "emb", "plain")
    plain = json.loads((tmp_path / "plain.json").read_text())
    assert plain["audio_seconds"] == report["audio_seconds"] and "peak_share" not in plain


def test_any_number_of_workers_gives_the_same_bytes(extract, make_data, tmp_path):
    data, found = make_data(12), set()
    for nj in (1, 2, 3):
        ended = extract(data, tmp_path / "emb.ark", "--nj", nj)
        assert ended.code == 0, ended.err
        found.add(read_both(tmp_path))
        for path in tmp_path.glob("emb*"):
            path.unlink()
    assert len(found) == 1


def test_bad_recordings_are_those_of_one_by_one(extract, make_data, tmp_path, one_by_one):
    data = make_data(9)
    silent, short = data / "wav/s0-u1.wav", data / "wav/s1-u2.wav"
    soundfile.write(silent, np.zeros(16000), 16000)
    soundfile.write(short, 0.1 * np.random.default_rng(1).standard_normal(3000), 16000)
    broken = data / "wav/s2-u5.wav"
    broken.write_bytes(broken.read_bytes()[:2000])
    not_finite = np.full(16000, 0.1, np.float32)
    not_finite[5000] = np.nan
    soundfile.write(data / "wav/s3-u6.wav", not_finite, 16000, subtype="FLOAT")
    told = []
    for name in ("emb", "plain"):
        ended = extract(data, tmp_path / f"{name}.ark")
        assert ended.code == 1 and f"{name}.ark.bad.tsv: 4 of 9 recordings can't be used" in ended.err
        told.append((tmp_path / f"{name}.ark.bad.tsv").read_text())
        assert extract(data, tmp_path / f"{name}.ark", "--max-bad", 4).code == 0
        one_by_one()
    assert told[0] == told[1]
    check_alike(tmp_path, "emb", "plain")


def test_an_embedding_of_nan_is_a_bad_recording(extract, make_data, tmp_path, monkeypatch):
    from speakerkit.inference import batched_extractor

    check = batched_extractor.check_embedding
    monkeypatch.setattr(batched_extractor, "check_embedding", lambda embedding, path: check(
        embedding * np.nan if embedding.sum() == embeddings["s1-u3"].sum() else embedding, path))
    data, embeddings = make_data(4), {"s1-u3": np.zeros(1)}
    assert extract(data, tmp_path / "emb.ark").code == 0
    embeddings.update(kaldiio.load_ark(str(tmp_path / "emb.ark")))
    ended = extract(data, tmp_path / "again.ark")
    assert ended.code == 1
    assert (tmp_path / "again.ark.bad.tsv").read_text().splitlines()[1].split("\t")[:3] == [
        "s1-u3", f"{data}/wav/s1-u3.wav", "nan-embedding"]


def test_killed_at_every_write_it_goes_on_to_the_same_bytes(extract, make_data, tmp_path):
    data = make_data(12)
    assert extract(data, tmp_path / "emb.ark").code == 0
    undisturbed = read_both(tmp_path)
    for path in tmp_path.glob("emb*"):
        path.unlink()
    number, kills = 0, 0
    while True:
        number += 3
        ended = extract(data, tmp_path / "emb.ark", "--quiet", env={"SPEAKERKIT_FAULT": f"any:{number}:kill"})
        if ended.code == 0:
            break
        assert ended.code == -signal.SIGKILL, ended.err
        kills += 1
    assert kills > 2
    assert read_both(tmp_path) == undisturbed


def test_a_worker_that_dies_is_told_with_its_file(extract, make_data, tmp_path):
    data = make_data(4)
    (data / "wav.scp").write_text(f"a {data}/wav/s0-u0.wav\nb kill -s KILL $PPID |\n")
    ended = extract(data, tmp_path / "emb.ark", "--allow-pipes")
    assert ended.code == 75
    assert "a worker died, probably for want of memory; in hand: " in ended.err
    assert "kill -s KILL $PPID |" in ended.err and "0 of 2 utterances are kept, rerun to go on" in ended.err


def test_no_memory_for_an_utterance_keeps_what_is_finished(extract, make_data, tmp_path, monkeypatch):
    import torch

    from speakerkit.inference.device_queue import DirectQueue
    from speakerkit.inference.torch_runner import TorchRunner

    data = make_data(7)
    add_recording(data, "z-long", 0.1 * np.random.default_rng(1).standard_normal(5 * 16000), 16000)
    put, embed = DirectQueue.put, TorchRunner.embed

    def short_of_memory(self, rows, num_samples):
        if len(rows) * num_samples > 4.5 * 16000 and max(map(len, rows)) != 4 * 16000:  # but for the golden batch
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return put(self, rows, num_samples)

    def refuse_long(self, samples):
        if len(samples) > 4.5 * 16000:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return embed(self, samples)

    monkeypatch.setattr(DirectQueue, "put", short_of_memory)
    assert extract(data, tmp_path / "fits.ark").code == 0  # alone it does
    monkeypatch.setattr(TorchRunner, "embed", refuse_long)
    ended = extract(data, tmp_path / "emb.ark")
    assert ended.code == 75
    assert "cpu: out of memory for one utterance of 5.0 s; want --device cpu; 5 of 8 utterances are kept" in ended.err


def test_long_recordings_are_read_in_blocks(extract, tmp_path, make_data, monkeypatch, one_by_one):
    """Beside short ones, at a rate of its own; and one that breaks off is told as ever."""
    for module in (utterance_embedding, audio_stream):
        monkeypatch.setattr(module, "LONG_S", 3.0)
    data = make_data(3)
    samples = 0.1 * np.random.default_rng(1).standard_normal(8000 * 5).astype(np.float32)
    soundfile.write(data / "long.flac", samples, 8000)
    whole = (data / "long.flac").read_bytes()
    (data / "cut.flac").write_bytes(whole[: len(whole) * 4 // 5])
    with open(data / "wav.scp", "a") as stream:
        stream.write(f"y-long {data}/long.flac\nz-cut {data}/cut.flac\n")
    embed_utterance = utterance_embedding.embed_utterance

    def note_and_embed(task):
        with open(tmp_path / "alone", "a") as stream:
            stream.write(f"{task[0].utt_id}\n")
        return embed_utterance(task)

    monkeypatch.setattr(utterance_embedding, "embed_utterance", note_and_embed)
    ended = extract(data, tmp_path / "emb.ark", "--max-bad", 1)
    assert ended.code == 0, ended.err
    assert (tmp_path / "alone").read_text().split() == ["y-long", "z-cut"]
    monkeypatch.setattr(utterance_embedding, "embed_utterance", embed_utterance)
    rows = (tmp_path / "emb.ark.bad.tsv").read_text().splitlines()
    assert [row.split("\t")[::2] for row in rows[1:]] == [["z-cut", "truncated"]]
    one_by_one()
    assert extract(data, tmp_path / "plain.ark", "--max-bad", 1).code == 0
    check_alike(tmp_path, "emb", "plain")


def test_a_pipe_of_any_length_and_joined_utterances(extract, make_data, tmp_path, monkeypatch, one_by_one):
    """A pipe's length isn't known: what has no room in the shared memory comes by another way."""
    monkeypatch.setattr(decoding, "WINDOW_S", 11.0)
    data = make_data(4)
    add_recording(data, "y-piped", 0.1 * np.random.default_rng(1).standard_normal(13 * 16000), 16000)
    lines = (data / "wav.scp").read_text().splitlines()
    lines[-1] = f"y-piped cat {data}/wav/y-piped.wav |"
    (data / "wav.scp").write_text("\n".join(lines) + "\n")
    (data / "utt2utts").write_text("s0-both s0-u0 s0-u1\ns1-u2 s1-u2\ns1-u3 s1-u3\ny-piped y-piped\n")
    options = ("--allow-pipes", "--utt2utts", data / "utt2utts")
    assert extract(data, tmp_path / "emb.ark", *options).code == 0
    one_by_one()
    assert extract(data, tmp_path / "plain.ark", *options).code == 0
    check_alike(tmp_path, "emb", "plain")


class Quarter:
    """Stands in for a detector of speech: the second quarter is what is spoken, if it is long enough."""

    def keep_speech(self, samples, rate, least_s):
        if len(samples) < 2 * rate:
            raise RecordingError("samples", "no-speech", "nobody speaks")
        return samples[len(samples) // 4 : len(samples) // 2]


def test_only_speech_is_embedded(make_data, monkeypatch):
    monkeypatch.setattr(utterance_embedding, "_detector", Quarter())
    monkeypatch.setattr(decoding, "WINDOW_S", 6.0)
    data = make_data(1)
    add_recording(data, "z-8k", 0.1 * np.random.default_rng(1).standard_normal(4 * 8000), 8000)
    short, long = (Utterance(name, str(data / "wav" / f"{name}.wav")) for name in ("s0-u0", "z-8k"))
    tasks = [(short, audio.AudioOptions(), 0.4), (long, audio.AudioOptions(), 4.0)]
    window, = decoding.cut_windows([tasks], 16000, in_blocks=True)
    with decoding.shared_samples(16000):
        refused, kept = (decoding.decode(task) for task in window)
        assert (refused.error.path, refused.error.reason) == (short.path, "no-speech")
        assert (kept.num_samples, kept.duration_s, kept.speech_s, kept.sample_rate) == (16000, 4.0, 1.0, 8000)
        samples, _ = audio.load_audio(long.path, audio.AudioOptions())
        np.testing.assert_array_equal(decoding.samples_of(window[1], kept), resample(samples[8000:16000], 8000, 16000))


@given(st.lists(st.lists(st.floats(0.025, 4.0), max_size=8), max_size=5), st.sampled_from([8000, 16000]))
def test_windows_hold_every_utterance_once(seconds, rate):
    """None over the end of a part, none with more than its memory, no two utterances in one place."""
    names = iter(range(100))
    listed = [[(Utterance(str(next(names)), "/p"), audio.AudioOptions(), length) for length in part]
              for part in seconds]
    windows = list(decoding.cut_windows(listed, rate, in_blocks=True))
    assert [task.task for window in windows for task in window] == [task for part in listed for task in part]
    part_of = {task[0].utt_id: number for number, part in enumerate(listed) for task in part}
    for number, window in enumerate(windows):
        assert window and {task.window for task in window} == {number}
        assert len({part_of[task.task[0].utt_id] for task in window}) == 1
        end = 0
        for task in window:
            assert task.first == end and (task.room == 0 or task.room > task.task[2] * rate)
            end += task.room
        assert end <= decoding.WINDOW_S * rate
        assert any(task.room for task in window) or len(window) == 1 or all(
            task.task[2] * rate + decoding.SLACK > decoding.WINDOW_S * rate for task in window)
