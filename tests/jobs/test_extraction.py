"""extract-embeddings as a job: what it writes, what it refuses, and what is left of it when it is stopped."""

import json
import random
import signal
import sys

import kaldi_native_io
import kaldiio
import numpy as np
import pytest
import soundfile

from speakerkit.inference.backends import load_extractor
from speakerkit.inference.speech_detector import load_detector
from speakerkit.io import audio, audio_stream, files
from speakerkit.jobs import parts, pool, utterance_embedding


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of three recordings, so that a few of them make several parts."""
    monkeypatch.setattr(parts, "PART_UTTERANCES", 3)


@pytest.fixture
def extract(extract_with):
    """``extract(data, ark, *options)`` with one worker unless told."""
    return extract_with(1)


def read_both(folder):
    return (folder / "emb.ark").read_bytes(), (folder / "emb.scp").read_bytes()


def test_embeddings_are_those_of_the_extractor(extract, make_data, tmp_path, small_model):
    data = make_data(5)
    ended = extract(data, tmp_path / "emb.ark", "--json", tmp_path / "j.json")
    assert ended.code == 0, ended.err
    extractor = load_extractor(small_model, "cpu", "float32", "torch")
    embeddings = dict(kaldiio.load_ark(str(tmp_path / "emb.ark")))
    assert list(embeddings) == [line.split()[0] for line in (data / "wav.scp").read_text().splitlines()]
    for utt_id, embedding in embeddings.items():
        samples, rate = audio.load_audio(data / f"wav/{utt_id}.wav")
        assert embedding.dtype == np.float32 and embedding.shape == (16,)
        # Convolutions may choose another kernel beside other threads.
        np.testing.assert_allclose(embedding, extractor.embed_samples(samples, rate), rtol=1e-5, atol=1e-6)
    report = json.loads((tmp_path / "j.json").read_text())
    assert report["sha256"] == files.sha256_file(small_model) and report["precision"] == "float32"
    assert (report["num_utterances"], report["num_bad"], report["audio_seconds"]) == (5, 0, 2.5)
    assert sorted(path.name for path in tmp_path.glob("emb*")) == ["emb.ark", "emb.ark.manifest.json", "emb.scp"]


def test_other_tools_read_them(extract, make_data, tmp_path):
    assert extract(make_data(4), tmp_path / "emb.ark").code == 0
    whole = dict(kaldiio.load_ark(str(tmp_path / "emb.ark")))
    listed = kaldiio.load_scp(str(tmp_path / "emb.scp"))
    with kaldi_native_io.SequentialFloatVectorReader(f"scp:{tmp_path}/emb.scp") as reader:
        native = {key: np.array(value) for key, value in reader}
    assert whole.keys() == listed.keys() == native.keys()
    for key, embedding in whole.items():
        np.testing.assert_array_equal(embedding, listed[key])
        np.testing.assert_array_equal(embedding, native[key])
    assert all(line.split()[1].startswith(f"{tmp_path}/emb.ark:") for line in (tmp_path / "emb.scp").open())


def test_any_number_of_workers_gives_the_same_bytes(extract, make_data, tmp_path):
    data, found = make_data(8), set()
    for nj in (1, 2, 3):
        assert extract(data, tmp_path / "emb.ark", "--nj", nj).code == 0
        found.add(read_both(tmp_path))
        for path in tmp_path.glob("emb*"):
            path.unlink()
    assert len(found) == 1


def test_no_more_workers_than_utterances(extract, make_data, tmp_path, monkeypatch):
    def run_tasks(function, tasks, nj, *others):
        (tmp_path / "nj").write_text(str(nj))
        return whole(function, tasks, nj, *others)

    whole = pool.run_tasks
    monkeypatch.setattr(pool, "run_tasks", run_tasks)
    ended = extract(make_data(3), tmp_path / "emb.ark", "--nj", 4096)
    assert ended.code == 0 and (tmp_path / "nj").read_text() == "3", ended.err


def test_the_longest_of_a_part_is_computed_first_and_the_lists_order_kept(extract, make_data, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "silent.wav", np.zeros(9000), 16000)
    data, computed = make_data(8, s0_u0=tmp_path / "silent.wav"), tmp_path / "computed"
    embed = utterance_embedding.embed_utterance

    def told(task):
        with computed.open("a") as stream:
            stream.write(f"{task[0].utt_id}\n")
        return embed(task)

    monkeypatch.setattr(utterance_embedding, "embed_utterance", told)
    assert extract(data, tmp_path / "emb.ark", "--max-bad", 1).code == 0
    # Of 0.4 s and 0.05 s more each, from the sixth on again; parts of three.
    assert computed.read_text().split() == [
        "s0-u0", "s1-u2", "s0-u1", "s2-u4", "s1-u3", "s2-u5", "s3-u7", "s3-u6"]
    listed = [line.split()[0] for line in (data / "wav.scp").read_text().splitlines()]
    assert list(dict(kaldiio.load_ark(str(tmp_path / "emb.ark")))) == listed[1:]


def test_segments_and_means_of_speakers(extract, make_data, tmp_path):
    data = make_data(4)
    (tmp_path / "segments").write_text("a-1 s0-u0 0 0.35\na-2 s0-u1 0.05 -1\nb-1 s1-u2 0 0.4\n")
    (tmp_path / "spk2utt").write_text("a a-1 a-2\nb b-1\n")
    ended = extract(data, tmp_path / "emb.ark", "--segments", tmp_path / "segments",
                    "--spk2utt", tmp_path / "spk2utt", "--average")
    assert ended.code == 0, ended.err
    embeddings = dict(kaldiio.load_ark(str(tmp_path / "emb.ark")))
    means = kaldiio.load_scp(str(tmp_path / "spk_emb.scp"))
    assert list(embeddings) == ["a-1", "a-2", "b-1"] and list(means) == ["a", "b"]
    np.testing.assert_allclose(means["a"], (embeddings["a-1"] + embeddings["a-2"]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(means["b"], embeddings["b-1"])


def test_relative_paths_are_taken_from_the_lists_folder(extract, make_data, tmp_path):
    data = make_data(3)
    (data / "wav.scp").write_text("".join(f"s-{n} wav/s{n // 2}-u{n}.wav\n" for n in range(3)))
    ended = extract(data, tmp_path / "emb.ark")
    assert ended.code == 0
    assert ended.err.count("relative paths are taken from its own folder") == 1


def test_a_list_on_standard_input(run_command, make_data, tmp_path, small_model):
    wav_scp = make_data(2) / "wav.scp"
    options = ("--model", small_model, "--backend", "torch", "--precision", "float32")
    assert run_command("extract-embeddings", *options, wav_scp, tmp_path / "a.ark").returncode == 0
    ended = run_command("extract-embeddings", *options, "-", tmp_path / "b.ark", input=wav_scp.read_text())
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "a.ark").read_bytes() == (tmp_path / "b.ark").read_bytes()
    ended = run_command("extract-embeddings", *options, "-", tmp_path / "c.ark", input="a b.wav\na c.wav\n")
    assert ended.returncode == 1 and "standard input:2: " in ended.stderr
    ended = run_command("extract-embeddings", *options, "-", tmp_path / "c.ark", "--segments", "-", input="")
    assert ended.returncode == 2 and not (tmp_path / "c.ark").exists()


@pytest.fixture
def spoken(tmp_path, speech_files):
    """A data directory of speech between pauses, and of noise alone: `wav.scp`, and the files by id."""
    generator, paths = np.random.default_rng(1), {}
    for number, recordings in enumerate(list(speech_files.values())[:4]):
        samples, _ = soundfile.read(recordings[0], dtype="float32")
        pause = generator.standard_normal(24000).astype(np.float32) * 1e-4
        paths[f"s{number}-u"] = np.concatenate([pause, samples, pause])
    paths["z-noise"] = 0.05 * generator.standard_normal(24000)
    (tmp_path / "spoken").mkdir()
    for utt_id, samples in paths.items():
        paths[utt_id] = tmp_path / "spoken" / f"{utt_id}.wav"
        soundfile.write(paths[utt_id], samples, 16000, subtype="PCM_16")
    (tmp_path / "spoken/wav.scp").write_text("".join(f"{utt} {path}\n" for utt, path in paths.items()))
    return tmp_path / "spoken", paths


def test_with_vad_only_speech_is_embedded(extract, spoken, tmp_path, small_model):
    data, paths = spoken
    emb_ark = tmp_path / "emb.ark"
    ended = extract(data, emb_ark, "--vad", "--json", tmp_path / "j.json")
    assert ended.code == 1
    assert "first 'z-noise'" in ended.err and "no-speech: nobody speaks in 1.50 s" in ended.err
    assert json.loads((tmp_path / "j.json").read_text())["bad_no_speech"] == 1
    assert not emb_ark.exists()
    assert extract(data, emb_ark, "--vad", "--max-bad", 1, "--nj", 2, "--json", tmp_path / "j.json").code == 0
    report = json.loads((tmp_path / "j.json").read_text())
    assert 0 < report["speech_seconds"] < report["audio_seconds"] - 3.0 * 4 + 1.0  # 3 s of pauses each
    embeddings = dict(kaldiio.load_ark(str(emb_ark)))
    assert list(embeddings) == list(paths)[:4]
    extractor, detector = load_extractor(small_model, "cpu", "float32"), load_detector()
    for utt_id, embedding in embeddings.items():
        samples, rate = audio.load_audio(paths[utt_id])
        wanted = extractor.embed_samples(detector.keep_speech(samples, rate), rate)
        np.testing.assert_allclose(embedding, wanted, rtol=1e-5, atol=1e-6)
    manifest = files.read_manifest(emb_ark)
    assert manifest["options"]["vad"] == manifest["results"]["vad"] == detector.name
    assert "nothing to do" in extract(data, emb_ark, "--vad", "--max-bad", 1).err
    ended = extract(data, emb_ark, "--max-bad", 1)
    assert ended.code == 2
    assert f'made with vad "{detector.name}", now null' in ended.err


def test_vad_that_is_not_installed_is_told_before_any_work(extract, make_data, tmp_path, monkeypatch):
    monkeypatch.setattr("speakerkit.inference.speech_detector.PACKAGE", "no-such-package")
    ended = extract(make_data(2), tmp_path / "emb.ark", "--vad")
    assert (ended.code, ended.err) == (2, "extract-embeddings: --vad needs no-such-package, which isn't installed: "
                                          "pip install 'speakerkit[vad]'\n")
    assert not list(tmp_path.glob("emb*"))


# --- run again ---------------------------------------------------------------------------------------------------


def test_a_second_run_has_nothing_to_do(extract, make_data, tmp_path):
    data = make_data(4)
    assert extract(data, tmp_path / "emb.ark").code == 0
    before = read_both(tmp_path)
    ended = extract(data, tmp_path / "emb.ark", "--nj", 2, "--json", tmp_path / "j.json")
    assert ended.code == 0 and "nothing to do" in ended.err
    assert read_both(tmp_path) == before
    assert json.loads((tmp_path / "j.json").read_text())["num_utterances"] == 4


@pytest.mark.parametrize("options, message", [
    (["--channel", "0"], "made with channel null, now 0"),
    (["--min-duration", "0.2"], "made with min_duration 0.3, now 0.2"),
])
def test_other_options_stop_it(extract, make_data, tmp_path, options, message):
    data = make_data(2)
    assert extract(data, tmp_path / "emb.ark").code == 0
    before = read_both(tmp_path)
    ended = extract(data, tmp_path / "emb.ark", *options)
    assert ended.code == 2 and message in ended.err and "--overwrite" in ended.err
    assert read_both(tmp_path) == before
    assert extract(data, tmp_path / "emb.ark", *options, "--overwrite").code == 0


def test_a_changed_recording_stops_it(extract, make_data, tmp_path):
    data = make_data(3)
    assert extract(data, tmp_path / "emb.ark").code == 0
    before = read_both(tmp_path)
    soundfile.write(data / "wav/s0-u1.wav", 0.1 * np.random.default_rng(7).standard_normal(9000), 16000)
    ended = extract(data, tmp_path / "emb.ark")
    assert ended.code == 2
    assert "audio (paths, sizes, times) has changed since" in ended.err and "--overwrite" in ended.err
    assert extract(data, tmp_path / "emb.ark", "--overwrite").code == 0
    assert read_both(tmp_path)[0] != before[0]


# --- stopped and gone on -----------------------------------------------------------------------------------------


def test_killed_at_every_write_it_goes_on_to_the_same_bytes(extract, make_data, tmp_path):
    data = make_data(7)
    assert extract(data, tmp_path / "emb.ark").code == 0
    undisturbed = read_both(tmp_path)
    for path in tmp_path.glob("emb*"):
        path.unlink()
    number, kills = 0, 0
    while True:
        number += 2  # every other point, a part further each time
        ended = extract(data, tmp_path / "emb.ark", "--quiet", env={"SPEAKERKIT_FAULT": f"any:{number}:kill"})
        if ended.code == 0:
            break
        assert ended.code == -signal.SIGKILL, ended.err
        kills += 1
        if (tmp_path / "emb.ark").exists():  # it takes its name when it is whole
            assert (tmp_path / "emb.ark").read_bytes() == undisturbed[0]
    assert kills > 3
    assert read_both(tmp_path) == undisturbed
    assert not list(tmp_path.glob("emb.ark.parts")) and not list(tmp_path.glob(".tmp-*"))


def test_killed_at_random_times_it_goes_on_to_the_same_bytes(extract, make_data, tmp_path):
    data = make_data(8)
    assert extract(data, tmp_path / "emb.ark").code == 0
    undisturbed = read_both(tmp_path)
    for path in tmp_path.glob("emb*"):
        path.unlink()
    delays = random.Random(2)
    for _ in range(4):
        extract(data, tmp_path / "emb.ark", "--nj", 2, "--quiet", kill_after_s=delays.uniform(0.05, 1.5))
    ended = extract(data, tmp_path / "emb.ark", "--nj", 2)
    assert ended.code == 0, ended.err
    assert read_both(tmp_path) == undisturbed


IN_SMALL_PARTS = """
import signal, sys
from speakerkit.cli.extract_embeddings import main
from speakerkit.jobs import parts

signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
parts.PART_UTTERANCES = 3
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.timeout(600)  # four processes import torch one after another; on busy cores that takes minutes
def test_a_stopped_run_keeps_its_finished_parts(run_command, small_model, make_data, tmp_path):
    """The fourth recording is a pipe that stops whoever reads it: a process of its own, for a fork of one that has
    loaded ONNX Runtime crashes when it is stopped."""
    data = make_data(4)
    lines = (data / "wav.scp").read_text().splitlines()
    stopped = tmp_path / "stopped"
    lines[3] = f"s1-u3 [ -e {stopped} ] || {{ touch {stopped}; kill -s $STOP_WITH $PPID; }}; cat {data}/wav/s1-u3.wav |"
    (data / "wav.scp").write_text("\n".join(lines) + "\n")
    for name, code, word in (("TERM", 143, "SIGTERM"), ("INT", 130, "Ctrl-C")):
        stopped.unlink(missing_ok=True)
        command = ("python", "-c", IN_SMALL_PARTS, "--model", small_model, "--precision", "float32", "--nj", 1,
                   "--backend", "torch", "--allow-pipes",
                   data / "wav.scp", tmp_path / f"{name}.ark", "--json", tmp_path / "j.json")
        ended = run_command(*command, env={"STOP_WITH": name}, start_new_session=True)
        assert ended.returncode == code
        assert ended.stderr.splitlines()[-1] == f"extract-embeddings: stopped by {word}"
        report = json.loads((tmp_path / "j.json").read_text())
        assert (report["status"], report["exit_code"]) == ("stopped", code)
        assert not (tmp_path / f"{name}.ark").exists() and not (tmp_path / f"{name}.ark.lock").exists()
        ended = run_command(*command, env={"STOP_WITH": name})
        assert ended.returncode == 0
        assert "1 of 2 parts are there from an earlier run" in ended.stderr


def test_a_worker_that_dies_is_told_with_its_file(extract, make_data, tmp_path):
    data = make_data(4)
    (data / "wav.scp").write_text(f"a {data}/wav/s0-u0.wav\nb kill -s KILL $PPID |\n")
    ended = extract(data, tmp_path / "emb.ark", "--allow-pipes", "--nj", 2)
    assert ended.code == 75
    assert "a worker died, probably for want of memory; in hand: " in ended.err
    assert "kill -s KILL $PPID |" in ended.err and "utterances are kept, rerun to go on" in ended.err


def test_a_disk_that_fills_keeps_what_is_finished(extract, make_data, tmp_path):
    data = make_data(7)
    ended = extract(data, tmp_path / "emb.ark", env={"SPEAKERKIT_FAULT": "write:6:enospc"})
    assert ended.code == 75
    assert "no space left on device" in ended.err and "6 of 7 utterances are kept, rerun to go on" in ended.err
    assert extract(data, tmp_path / "emb.ark").code == 0


def test_a_second_writer_is_refused(extract, make_data, tmp_path):
    with files.output_lock(tmp_path / "emb.ark"):
        ended = extract(make_data(2), tmp_path / "emb.ark")
    assert ended.code == 75 and "is being written by process" in ended.err


# --- bad recordings ----------------------------------------------------------------------------------------------


def write_bad_recordings(folder):
    """A recording for each way to be bad; utt_id -> reason."""
    noise = 0.1 * np.random.default_rng(1).standard_normal(16000).astype(np.float32)
    soundfile.write(folder / "cut.wav", noise, 16000)
    whole = (folder / "cut.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    soundfile.write(folder / "silent.wav", np.zeros(16000), 16000)
    not_finite = noise.copy()
    not_finite[5000] = np.nan
    soundfile.write(folder / "nan.wav", not_finite, 16000, subtype="FLOAT")
    soundfile.write(folder / "two.wav", np.stack([noise, noise], axis=1), 16000)
    soundfile.write(folder / "short.wav", noise[:3000], 16000)
    (folder / "nothing.wav").touch()
    (folder / "page.wav").write_text("<html>404</html>")
    (folder / "folder.wav").mkdir()
    return {"cut": "truncated", "silent": "silent", "nan": "not-finite", "two": "channel-not-chosen",
            "short": "too-short", "nothing": "empty", "page": "unsupported-format", "folder": "not-a-file",
            "gone": "missing"}


def test_bad_recordings_are_listed_while_the_rest_goes_on(extract, make_data, tmp_path):
    data = make_data(4)
    reasons = write_bad_recordings(data)
    with open(data / "wav.scp", "a") as stream:
        stream.writelines(f"x-{name} {data}/{name}.wav\n" for name in reasons)
    ended = extract(data, tmp_path / "emb.ark", "--json", tmp_path / "j.json")
    assert ended.code == 1
    assert f"{tmp_path}/emb.ark.bad.tsv: 9 of 13 recordings can't be used" in ended.err
    assert "to leave them out: extract-embeddings " in ended.err and ended.err.rstrip().endswith("--max-bad 9")
    rows = [line.split("\t") for line in (tmp_path / "emb.ark.bad.tsv").read_text().splitlines()]
    assert rows[0] == ["id", "path", "reason", "detail"]
    assert {row[0]: row[2] for row in rows[1:]} == {f"x-{name}": reason for name, reason in reasons.items()}
    assert all(row[1].startswith(f"{data}/") for row in rows[1:])
    report = json.loads((tmp_path / "j.json").read_text())
    assert (report["num_utterances"], report["num_bad"], report["bad_too_short"]) == (4, 9, 1)
    assert not (tmp_path / "emb.ark").exists() and not (tmp_path / "emb.scp").exists()
    assert extract(data, tmp_path / "emb.ark", "--max-bad", "8").code == 1
    assert extract(data, tmp_path / "emb.ark", "--max-bad", "60%").code == 1
    ended = extract(data, tmp_path / "emb.ark", "--max-bad", "70%")
    assert ended.code == 0 and "parts are there from an earlier run" in ended.err
    assert "4 of 13 utterances, 0.00 h of audio, 9 bad" in ended.err
    assert len(dict(kaldiio.load_ark(str(tmp_path / "emb.ark")))) == 4


def test_what_may_be_accepted(extract, make_data, tmp_path):
    data = make_data(1)
    write_bad_recordings(data)
    (data / "wav.scp").write_text(f"a {data}/cut.wav\nb {data}/two.wav\nc {data}/short.wav\n")
    ended = extract(data, tmp_path / "emb.ark", "--accept-truncated", "--channel", "mix", "--min-duration", "0.1")
    assert ended.code == 0, ended.err
    assert "1 recording: truncated, taken as it is" in ended.err


def test_mending_a_recording_costs_its_part_only(extract, make_data, tmp_path):
    data = make_data(7)
    broken = data / "wav/s2-u4.wav"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:2000])
    assert extract(data, tmp_path / "emb.ark").code == 1
    broken.write_bytes(whole)
    ended = extract(data, tmp_path / "emb.ark")
    assert ended.code == 0
    assert "2 of 3 parts are there from an earlier run" in ended.err
    assert len(dict(kaldiio.load_ark(str(tmp_path / "emb.ark")))) == 7
    assert not (tmp_path / "emb.ark.bad.tsv").exists()


def test_a_part_of_bad_recordings_only(extract, make_data, tmp_path):
    data = make_data(7)
    for utt_id in ("s1-u3", "s2-u4", "s2-u5"):
        soundfile.write(data / f"wav/{utt_id}.wav", np.zeros(16000), 16000)
    assert extract(data, tmp_path / "emb.ark", "--max-bad", "3").code == 0
    assert len(dict(kaldiio.load_ark(str(tmp_path / "emb.ark")))) == 4


def test_a_speaker_of_bad_recordings_only_is_an_error(extract, make_data, tmp_path):
    data = make_data(3)
    (data / "wav/s1-u2.wav").unlink()
    (tmp_path / "spk2utt").write_text("s0 s0-u0 s0-u1\ns1 s1-u2\n")
    ended = extract(data, tmp_path / "emb.ark", "--spk2utt", tmp_path / "spk2utt", "--average", "--max-bad", 1)
    assert ended.code == 1
    assert "no recording of speaker 's1' can be used" in ended.err


def test_an_embedding_of_nan_is_a_bad_recording(extract, make_data, tmp_path, monkeypatch):
    import torch

    from speakerkit.models import resnet

    forward = resnet.ResNet.forward

    def long_is_nan(self, features, lengths=None):
        return forward(self, features, lengths) * (torch.nan if features.shape[1] == 53 else 1.0)

    monkeypatch.setattr(resnet.ResNet, "forward", long_is_nan)
    data = make_data(4)
    ended = extract(data, tmp_path / "emb.ark", "--backend", "torch")
    assert ended.code == 1
    assert (tmp_path / "emb.ark.bad.tsv").read_text().splitlines()[1].split("\t")[:3] == [
        "s1-u3", f"{data}/wav/s1-u3.wav", "nan-embedding"]


# --- refusals ----------------------------------------------------------------------------------------------------


def test_pipes(extract, make_data, tmp_path):
    data = make_data(2)
    (data / "wav.scp").write_text(f"a cat {data}/wav/s0-u0.wav |\nb false |\n")
    ended = extract(data, tmp_path / "emb.ark")
    assert ended.code == 1
    assert f"{data}/wav.scp:2: 'false |' is a shell pipe; it runs only with --allow-pipes" in ended.err
    ended = extract(data, tmp_path / "emb.ark", "--allow-pipes", "--max-bad", 1)
    assert ended.code == 0
    assert list(dict(kaldiio.load_ark(str(tmp_path / "emb.ark")))) == ["a"]
    assert "pipe-failed" in (tmp_path / "emb.ark.bad.tsv").read_text()


def test_faults_of_structure_are_told_before_the_work(extract, make_data, tmp_path):
    data = make_data(2)
    (tmp_path / "segments").write_text("a-1 s0-u0 0 0.35\na-2 other 0 1\na-3 another 0 1\n")
    ended = extract(data, tmp_path / "emb.ark", "--segments", tmp_path / "segments")
    assert ended.code == 1
    assert f"{tmp_path}/segments:2: recording 'other' is not in {data}/wav.scp" in ended.err
    assert f"{tmp_path}/segments:3: recording 'another' is not in" in ended.err
    (tmp_path / "spk2utt").write_text("s0 s0-u0 gone\n")
    ended = extract(data, tmp_path / "emb.ark", "--spk2utt", tmp_path / "spk2utt", "--average")
    assert ended.code == 1 and "'gone' of speaker 's0' is not among the utterances" in ended.err
    ended = extract(data, tmp_path / "emb.ark", "--spk2utt", tmp_path / "spk2utt")
    assert ended.code == 2 and "--average and --spk2utt go together" in ended.err
    assert not list(tmp_path.glob("emb*"))


@pytest.mark.parametrize("place, code, message", [
    ("folder", 75, "folder: can't be written: is a folder"),
    ("file/emb.ark", 75, "can't be written"),
])
def test_an_output_place_that_cannot_be(extract, make_data, tmp_path, place, code, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    ended = extract(make_data(1), tmp_path / place)
    assert ended.code == code and message in ended.err


@pytest.mark.parametrize("output, code, message", [
    ("wav.ark", 2, "wav.ark: its {data}/wav.scp is one of the inputs"),
    ("emb.scp", 2, "emb.scp is the name of the table beside the archive; want another, such as {data}/emb.ark"),
    ("{model}", 2, "{model} is one of the inputs"),
    ("a\nb.ark", 1, "a line holds no line break"),
])
def test_what_is_read_is_never_written_over(extract, make_data, small_model, output, code, message):
    data = make_data(1)
    before = (data / "wav.scp").read_bytes(), small_model.read_bytes()
    ended = extract(data, data / output.format(model=small_model), "--overwrite")
    assert ended.code == code and message.format(data=data, model=small_model) in ended.err
    assert ((data / "wav.scp").read_bytes(), small_model.read_bytes()) == before
    assert not list(data.glob("*.parts")) and not list(data.glob("*.manifest.json"))


def test_a_model_that_is_not_there(extract, make_data, tmp_path):
    ended = extract(make_data(1), tmp_path / "emb.ark", "--model", tmp_path / "gone.safetensors")
    assert ended.code == 1
    assert "gone.safetensors: no such model (--model)" in ended.err


# --- recordings of any length --------------------------------------------------------------------------------------

PEAK = """
import resource, sys
from speakerkit.cli.extract_embeddings import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB
sys.exit(code)
"""


@pytest.mark.timeout(400)
def test_an_hour_takes_the_memory_of_minutes(tmp_path, small_model, run_command):
    """12 minutes against 2: loaded at once, their samples alone would be 38 MB more."""
    minutes = 0.1 * np.random.default_rng(1).standard_normal(2 * 60 * 16000).astype(np.float32)
    peaks = {}
    for times in (1, 6):
        with soundfile.SoundFile(tmp_path / f"{times}.wav", "w", 16000, 1, "PCM_16") as sound:
            for _ in range(times):
                sound.write(minutes)
        (tmp_path / "wav.scp").write_text(f"long {tmp_path}/{times}.wav\n")
        ended = run_command(sys.executable, "-c", PEAK, tmp_path / "wav.scp", tmp_path / f"{times}.ark", "--nj", 1,
                            "--model", small_model, "--backend", "onnx", "--quiet")
        assert ended.returncode == 0, ended.stderr
        peaks[times] = int(ended.stdout) / 1024
    assert peaks[6] - peaks[1] < 15, peaks


def test_a_long_recording_in_blocks_is_the_one_in_memory(extract, tmp_path, small_model, monkeypatch):
    """At 8 kHz, so that it is resampled in blocks too; and one that breaks off is told as ever."""
    monkeypatch.setattr(utterance_embedding, "LONG_S", 3.0)
    monkeypatch.setattr(audio_stream, "LONG_S", 3.0)
    samples = 0.1 * np.random.default_rng(1).standard_normal(8000 * 5).astype(np.float32)
    soundfile.write(tmp_path / "long.flac", samples, 8000)
    whole = (tmp_path / "long.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) * 4 // 5])
    (tmp_path / "wav.scp").write_text(f"a-long {tmp_path}/long.flac\nb-cut {tmp_path}/cut.flac\n")
    ended = extract(tmp_path, tmp_path / "emb.ark", "--max-bad", 1, "--backend", "onnx")
    assert ended.code == 0, ended.err
    rows = (tmp_path / "emb.ark.bad.tsv").read_text().splitlines()
    assert [row.split("\t")[::2] for row in rows[1:]] == [["b-cut", "truncated"]]
    ours = dict(kaldiio.load_ark(str(tmp_path / "emb.ark")))["a-long"]
    at_once = load_extractor(small_model, "cpu", "float32", "onnx").embed_samples(*audio.load_audio(
        tmp_path / "long.flac"))
    np.testing.assert_allclose(ours, at_once, atol=1e-3 * np.abs(at_once).max())
