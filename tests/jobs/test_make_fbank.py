"""make-fbank as a job: what it writes, what it refuses, and what is left of it when it is killed."""

import json
import random
import signal

import kaldi_native_io
import kaldiio
import numpy as np
import pytest
import soundfile
import torch

from speakerkit.cli import make_fbank as command_module
from speakerkit.config import FbankConfig, SystemConfig, as_dict
from speakerkit.errors import ConfigError
from speakerkit.features.fbank import compute_fbank, num_frames
from speakerkit.features.resample import change_speed
from speakerkit.io import audio, files
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.io.data_dir import read_data_dir
from speakerkit.io.data_dir_checks import validate_data_dir
from speakerkit.jobs import make_fbank as job
from speakerkit.jobs import parts
from speakerkit.training.setup import make_chunks

main = command_module.main


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of two or three short recordings, so that a few of them make many parts."""
    monkeypatch.setattr(job, "LEAST_PART_SECONDS", 1.2)


def test_features_are_those_of_compute_fbank(command, make_data):
    data = make_data()
    assert command(main, data, "--nj", 1).code == 0
    folder = read_data_dir(data)
    for utt_id, matrix in kaldiio.load_scp(str(data / "feats.scp")).items():
        samples, rate = audio.load_audio(folder.wav_scp.values[utt_id])
        assert rate == 16000
        np.testing.assert_array_equal(matrix, compute_fbank(torch.from_numpy(samples), FbankConfig()).numpy())
        assert int(folder.utt2num_frames.values[utt_id]) == len(matrix) == num_frames(len(samples), FbankConfig())
    assert list(folder.feats_scp.values) == sorted(folder.wav_scp.values)
    assert all(place.startswith(f"{data}/feats/feats.0000") for place in folder.feats_scp.values.values())
    assert sorted(path.name for path in (data / "feats").iterdir()) == [f"feats.0000{n}.ark" for n in (1, 2, 3, 4)]
    assert files.read_manifest(data / "feats.scp")["options"]["fbank"] == as_dict(FbankConfig())


def test_kaldi_native_io_reads_them(command, make_data):
    data = make_data(3)
    assert command(main, data, "--nj", 1).code == 0
    mine = dict(kaldiio.load_scp(str(data / "feats.scp")).items())
    with kaldi_native_io.SequentialFloatMatrixReader(f"scp:{data}/feats.scp") as reader:
        theirs = {key: np.array(value) for key, value in reader}
    assert theirs.keys() == mine.keys()
    for key, matrix in theirs.items():
        np.testing.assert_array_equal(matrix, mine[key])


def test_compressed_features_are_within_kaldis_error(command, make_data):
    plain, small = make_data(name="plain"), make_data(name="small")
    assert command(main, plain, "--nj", 1).code == 0
    assert command(main, small, "--nj", 1, "--compress").code == 0
    compressed = kaldiio.load_scp(str(small / "feats.scp"))
    for utt_id, matrix in kaldiio.load_scp(str(plain / "feats.scp")).items():
        # A byte a value over at most the column's range.
        assert np.abs(compressed[utt_id] - matrix).max() < 0.02 * np.ptp(matrix, axis=0).max()
    ratio = (plain / "feats/feats.00001.ark").stat().st_size / (small / "feats/feats.00001.ark").stat().st_size
    assert ratio > 2.5  # 4 but for 8 bytes a column, which weigh in such short recordings


@pytest.mark.parametrize("options", [[], ["--compress"]], ids=["float32", "compressed"])
def test_any_number_of_workers_gives_the_same_bytes(command, make_data, tmp_path, read_tree, options):
    data = make_data()
    config = tmp_path / "dither.toml"
    config.write_text("[fbank]\ndither = 1.0\n")
    trees = []
    for nj in (1, 2, 3):
        output = tmp_path / "out"  # the same place: the paths stand in feats.scp
        ended = command(main, data, "--output-dir", output, "--config", config, "--speeds", "0.9,1.0",
                        "--nj", nj, *options)
        assert ended.code == 0, ended.err
        trees.append(read_tree(output))
        output.rename(tmp_path / f"out{nj}")
    assert trees[0] == trees[1] == trees[2]
    assert len([name for name in trees[0] if name.endswith(".ark")]) > 2


def test_dither_follows_seed_and_utterance(command, make_data, tmp_path):
    config = tmp_path / "dither.toml"
    config.write_text("[fbank]\ndither = 1.0\n")
    data = make_data(2)
    (data / "wav.scp").write_text(f"a {data}/wav/s0-u0.wav\nb {data}/wav/s0-u0.wav\n")
    (data / "utt2spk").write_text("a a\nb b\n")
    found = {}
    for seed in (1, 2):
        output = tmp_path / f"seed{seed}"
        assert command(main, data, "--output-dir", output, "--config", config, "--seed", seed, "--nj", 1).code == 0
        found[seed] = dict(kaldiio.load_scp(str(output / "feats.scp")).items())
    assert not np.array_equal(found[1]["a"], found[1]["b"])  # one recording, two ids
    assert not np.array_equal(found[1]["a"], found[2]["a"])


@pytest.mark.parametrize("mode, ids, speakers", [
    ("new", ["s0-u0", "s0-u1", "sp0.9-s0-u0", "sp0.9-s0-u1"], ["s0", "s0", "sp0.9-s0", "sp0.9-s0"]),
    ("keep", ["s0-u0", "s0-u0-sp0.9", "s0-u1", "s0-u1-sp0.9"], ["s0", "s0", "s0", "s0"]),
])
def test_speeds_make_a_data_directory(command, make_data, tmp_path, mode, ids, speakers):
    data, output = make_data(2), tmp_path / "sp"
    ended = command(main, data, "--speeds", "0.9,1.0", "--speed-speakers", mode, "--output-dir", output, "--nj", 1)
    assert ended.code == 0, ended.err
    counts, warnings = validate_data_dir(output)
    assert counts["num_utterances"] == 4
    folder = read_data_dir(output)
    assert folder.utt2spk.values == dict(zip(ids, speakers, strict=True))
    assert list(folder.feats_scp.values) == list(folder.utt2num_frames.values) == ids
    assert folder.wav_scp is None
    samples, _ = audio.load_audio(data / "wav/s0-u1.wav")
    slow = ids[3]
    features = compute_fbank(torch.from_numpy(change_speed(samples, 0.9)), FbankConfig()).numpy()
    np.testing.assert_array_equal(kaldiio.load_scp(str(output / "feats.scp"))[slow], features)
    assert int(folder.utt2num_frames.values[slow]) == len(features)
    assert not (data / "feats.scp").exists()


def test_segments_are_stretches(command, make_data):
    data = make_data(2)
    (data / "segments").write_text("s0-a s0-u0 0.0 0.35\ns0-b s0-u1 0.05 -1\n")
    (data / "utt2spk").write_text("s0-a s0\ns0-b s0\n")
    assert command(main, data, "--nj", 1).code == 0
    features = kaldiio.load_scp(str(data / "feats.scp"))
    whole, _ = audio.load_audio(data / "wav/s0-u1.wav")
    np.testing.assert_array_equal(features["s0-b"], compute_fbank(torch.from_numpy(whole[800:]), FbankConfig()).numpy())
    assert list(features) == ["s0-a", "s0-b"]


def test_other_rates_are_resampled_and_said(command, make_data, tmp_path):
    soundfile.write(tmp_path / "8k.wav", 0.1 * np.random.default_rng(1).standard_normal(8000), 8000)
    data = make_data(2, s0_u1=tmp_path / "8k.wav")
    ended = command(main, data, "--nj", 1)
    assert ended.code == 0
    assert "resampled 1 recording from 8000 Hz to 16000 Hz" in ended.err
    assert kaldiio.load_scp(str(data / "feats.scp"))["s0-u1"].shape == (98, 80)


def test_a_second_run_has_nothing_to_do(command, make_data, tmp_path, read_tree):
    data = make_data(3)
    assert command(main, data, "--nj", 1).code == 0
    before = read_tree(data)
    for options in ([], ["--overwrite"]):
        ended = command(main, data, "--nj", 2, "--json", tmp_path / "again.json", *options)
        assert ended.code == 0
        assert "nothing to do" in ended.err
    assert read_tree(data) == before
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["num_utterances"] == 3 and again["num_bad"] == 0 and again["num_frames"] > 100


def test_what_was_made_differently_stays_without_overwrite(command, make_data, read_tree):
    data = make_data(3)
    assert command(main, data, "--nj", 1).code == 0
    before = read_tree(data)
    ended = command(main, data, "--nj", 1, "--compress")
    assert ended.code == 2
    assert "made with compress false, now true" in ended.err and "--overwrite" in ended.err
    assert read_tree(data) == before
    assert command(main, data, "--nj", 1, "--compress", "--overwrite").code == 0
    assert (data / "feats/feats.00001.ark").stat().st_size < len(before["feats/feats.00001.ark"]) / 2


def test_features_of_another_tool_stay_without_overwrite(command, make_data):
    data = make_data(2)
    (data / "feats.scp").write_text("s0-u0 /elsewhere/raw.ark:5\n")
    ended = command(main, data, "--nj", 1)
    assert ended.code == 2 and "--overwrite" in ended.err
    assert (data / "feats.scp").read_text() == "s0-u0 /elsewhere/raw.ark:5\n"


def test_a_changed_archive_is_noticed(command, make_data):
    data = make_data(3)
    assert command(main, data, "--nj", 1).code == 0
    archive = data / "feats/feats.00001.ark"
    whole = archive.read_bytes()
    archive.write_bytes(whole)  # another time, the same bytes
    assert command(main, data, "--nj", 1).code == 0
    for changed in (whole[:-1], whole + b"x", whole[:500] + bytes([whole[500] ^ 1]) + whole[501:]):
        archive.write_bytes(changed)
        ended = command(main, data, "--nj", 1)
        assert ended.code == 2
        assert "feats.00001.ark is not as it was written" in ended.err
    assert command(main, data, "--nj", 1, "--overwrite").code == 0
    assert archive.read_bytes() == whole


def test_a_changed_recording_is_noticed(command, make_data):
    data = make_data(3)
    assert command(main, data, "--nj", 1).code == 0
    soundfile.write(data / "wav/s0-u0.wav", 0.1 * np.random.default_rng(9).standard_normal(8000), 16000)
    ended = command(main, data, "--nj", 1)
    assert ended.code == 2
    assert "audio (paths, sizes, times) has changed since" in ended.err and "--overwrite" in ended.err


# --- killed and gone on ------------------------------------------------------------------------------------------


def test_killed_at_every_write_it_goes_on_to_the_same_bytes(command, make_data, tmp_path, read_tree):
    data, output = make_data(5), tmp_path / "out"
    arguments = [data, "--output-dir", output, "--speeds", "1.0,1.1", "--nj", 1, "--quiet"]
    assert command(main, *arguments).code == 0
    undisturbed = read_tree(output)
    output.rename(tmp_path / "undisturbed")
    number, kills = 0, 0
    while True:
        number += 2  # every other point, a part further each time
        ended = command(main, *arguments, env={"SPEAKERKIT_FAULT": f"any:{number}:kill"})
        if ended.code == 0:
            break
        assert ended.code == -signal.SIGKILL, ended.err
        kills += 1
        if (output / "feats.scp").exists():  # then all it points at is there
            assert validate_data_dir(output)[0]["num_utterances"] == 10
        if kills % 2:  # from where it was killed, or all over again
            assert command(main, *arguments).code == 0
            assert read_tree(output) == undisturbed
            output.rename(tmp_path / f"killed{number}")
    assert kills > 5
    assert read_tree(output) == undisturbed


def test_killed_at_random_times_it_goes_on_to_the_same_bytes(command, make_data, tmp_path, read_tree):
    data, output = make_data(8), tmp_path / "out"
    arguments = [data, "--output-dir", output, "--speeds", "0.9,1.0,1.1", "--nj", 2, "--quiet"]
    assert command(main, *arguments).code == 0
    undisturbed = read_tree(output)
    output.rename(tmp_path / "undisturbed")
    delays = random.Random(1)
    for _ in range(4):
        command(main, *arguments, kill_after_s=delays.uniform(0.05, 1.0))
    ended = command(main, *arguments)
    assert ended.code == 0, ended.err
    assert read_tree(output) == undisturbed


def test_finished_parts_are_taken_as_they_are(command, make_data):
    data = make_data(8)
    (data / "wav/s3-u7.wav").unlink()
    ended = command(main, data, "--nj", 1)
    assert ended.code == 1
    first = (data / "feats/feats.00001.ark").stat().st_ino
    soundfile.write(data / "wav/s3-u7.wav", 0.1 * np.random.default_rng(9).standard_normal(8000), 16000)
    ended = command(main, data, "--nj", 1)
    assert ended.code == 0
    assert "parts are there from an earlier run" in ended.err
    assert (data / "feats/feats.00001.ark").stat().st_ino == first
    assert validate_data_dir(data)[0]["num_utterances"] == 8
    assert not (data / "feats.scp.bad.tsv").exists()


def test_a_mended_recording_moves_the_cuts_of_its_own_run_only(monkeypatch):
    monkeypatch.setattr(parts, "PART_UTTERANCES", 4)
    lengths = [10.0, 0.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0]
    before = parts.split_parts(lengths, 25.0)
    after = parts.split_parts([10.0] * 9, 25.0)
    assert before == [range(3), range(3, 4), range(4, 6), range(6, 8), range(8, 9)]
    assert after == [range(2), range(2, 4), range(4, 6), range(6, 8), range(8, 9)]
    assert parts.split_parts([]) == []


def test_a_worker_that_dies_is_told(command, make_data):
    data = make_data(8)
    ended = command(main, data, "--nj", 2, env={"SPEAKERKIT_FAULT": "replace:4:kill"})
    assert ended.code == 75
    assert "a worker died" in ended.err and "feats.0000" in ended.err and "rerun to go on" in ended.err
    assert command(main, data, "--nj", 2).code == 0


# --- refusals ----------------------------------------------------------------------------------------------------


def test_bad_recordings_are_listed_and_left_out_on_request(command, make_data, tmp_path):
    data = make_data(6, s0_u1=tmp_path / "gone.wav", s1_u2=tmp_path / "silent.wav")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    output = tmp_path / "out"
    ended = command(main, data, "--output-dir", output, "--nj", 1, "--json", tmp_path / "j.json")
    assert ended.code == 1
    assert "2 of 6 recordings can't be used" in ended.err and "--max-bad 2" in ended.err
    assert not (output / "feats.scp").exists()
    rows = [line.split("\t") for line in (output / "feats.scp.bad.tsv").read_text().splitlines()]
    assert [row[:3] for row in rows] == [["id", "path", "reason"], ["s0-u1", f"{tmp_path}/gone.wav", "missing"],
                                         ["s1-u2", f"{tmp_path}/silent.wav", "silent"]]
    report = json.loads((tmp_path / "j.json").read_text())
    assert (report["status"], report["num_utterances"], report["num_bad"]) == ("bad-data", 4, 2)
    assert report["bad_missing"] == report["bad_silent"] == 1
    ended = command(main, data, "--output-dir", output, "--nj", 1, "--max-bad", "2")
    assert ended.code == 0
    assert validate_data_dir(output)[0]["num_utterances"] == 4
    assert list(read_data_dir(output).utt2spk.values) == ["s0-u0", "s1-u3", "s2-u4", "s2-u5"]


def test_nothing_but_bad_recordings_is_never_published(command, make_data, tmp_path):
    data = make_data(1, s0_u0=tmp_path / "gone.wav")
    ended = command(main, data, "--nj", 1, "--max-bad", "100%")
    assert ended.code == 1 and "nothing is left" in ended.err


def test_a_disk_too_small_is_told_before_the_work(command, make_data, monkeypatch):
    data = make_data(4)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(job.shutil, "disk_usage", lambda path: usage)
    ended = command(main, data, "--nj", 1)
    assert ended.code == 75
    assert "the features need about 6.11e-05 GB, 1e-06 GB are free; --compress needs a quarter" in ended.err
    assert not list((data / "feats").glob("*.ark"))


def test_a_disk_that_fills_keeps_what_is_finished(command, make_data):
    data = make_data(8)
    ended = command(main, data, "--nj", 1, env={"SPEAKERKIT_FAULT": "write:8:enospc"})
    assert ended.code == 75
    assert "no space left on device" in ended.err and "of 8 utterances are kept, rerun to go on" in ended.err
    assert command(main, data, "--nj", 1).code == 0


def test_a_second_writer_is_refused(command, make_data):
    data = make_data(2)
    with files.output_lock(data / "feats.scp"):
        ended = command(main, data, "--nj", 1)
    assert ended.code == 75 and "is being written by process" in ended.err


@pytest.mark.parametrize("options, message", [
    (["--speeds", "0.9,1.0"], "give --output-dir"),
    (["--speeds", "1.0,1.0", "--output-dir", "x"], "names one speed twice"),
    (["--speeds", "nan", "--output-dir", "x"], "not a number from 0.5 to 2"),
    (["--speeds", "3", "--output-dir", "x"], "not a number from 0.5 to 2"),
    (["--output-dir", "DATA"], "is DATA_DIR itself"),
    (["--output-dir", ""], "argument --output-dir: is empty"),
    (["--config", "gone.toml"], "gone.toml: no such file"),
])
def test_command_lines_that_cannot_be(command, make_data, options, message):
    data = make_data(1)
    ended = command(main, data, *[str(data) if option == "DATA" else option for option in options])
    assert ended.code == 2 and message in ended.err


def test_tables_that_do_not_fit_are_told_before_the_work(command, make_data, tmp_path):
    data, output = make_data(2), tmp_path / "out"
    (data / "utt2spk").write_text("s0-u0 s0\nsp0.9-s0-u0 s0\nother s1\n")
    with open(data / "wav.scp", "a") as stream:
        stream.write(f"sp0.9-s0-u0 {data}/wav/s0-u0.wav\n")
    ended = command(main, data, "--output-dir", output, "--speeds", "0.9,1.0", "--nj", 1)
    assert ended.code == 1
    assert f"{data}/utt2spk:3: 'other' has no recording" in ended.err
    assert "lacks 's0-u1', which has a recording" in ended.err
    assert "utt2spk:2: 'sp0.9-s0-u0' is what 's0-u0' is called at speed 0.9" in ended.err
    assert not output.exists()


@pytest.mark.parametrize("value, options, code, message", [
    ("cat {} |", [], 1, "shell pipe; it runs only with --allow-pipes"),
    ("cat {} |", ["--allow-pipes"], 0, "2 of 2 utterances"),
])
def test_pipes(command, make_data, value, options, code, message):
    data = make_data(2)
    (data / "wav.scp").write_text(f"s0-u0 {data}/wav/s0-u0.wav\ns0-u1 {value.format(data / 'wav/s0-u1.wav')}\n")
    ended = command(main, data, "--nj", 1, *options)
    assert ended.code == code and message in ended.err


def test_a_folder_that_is_not_there(command, tmp_path):
    ended = command(main, tmp_path / "gone")
    assert ended.code == 1 and "gone: no such folder" in ended.err
    (tmp_path / "empty").mkdir()
    ended = command(main, tmp_path / "empty")
    assert ended.code == 1 and "wav.scp: no such file" in ended.err


# --- for training ------------------------------------------------------------------------------------------------


def test_training_takes_them_and_no_others(command, make_data, tmp_path):
    data, output = make_data(4), tmp_path / "sp"
    assert command(main, data, "--speeds", "0.9,1.0", "--output-dir", output, "--nj", 1).code == 0
    bad = BadRecordings(str(tmp_path / "bad"))
    chunks = make_chunks(output, SystemConfig(), audio.AudioOptions(), bad, show=False)
    assert chunks.speakers == ["s0", "s1", "sp0.9-s0", "sp0.9-s1"]
    with pytest.raises(ConfigError, match=r"made with other fbank options: dither 0.0 \(training: 1.0\)"):
        make_chunks(output, SystemConfig(fbank=FbankConfig(dither=1.0)), audio.AudioOptions(), bad, show=False)
