"""The mini corpus: artificial talkers in CN-Celeb's layout, or a folder of real recordings."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import prepare_mini


def read(path: Path) -> list[list[str]]:
    return [line.split(" ") for line in path.read_text().splitlines()]


def prepare(tmp_path: Path, *options: object) -> int:
    return prepare_mini.main([*map(str, options), *(str(tmp_path / name) for name in ("corpus", "train", "eval"))])


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Eight speakers of five recordings."""
    folder = tmp_path / "speech"
    for speaker in "abcdefgh":
        (folder / speaker).mkdir(parents=True)
        for number in range(5):
            soundfile.write(folder / speaker / f"r{number}.flac", 0.1 * np.ones(8000), 16000)
    return folder


def test_names_of_recordings():
    # two recordings a session, and each session has the next genre
    names = [prepare_mini.cnceleb_name(number) for number in range(8)]
    assert names == ["interview-01-001", "interview-01-002", "speech-01-001", "speech-01-002",
                     "vlog-01-001", "vlog-01-002", "interview-02-001", "interview-02-002"]


def test_artificial_talkers(tmp_path):
    assert prepare(tmp_path, "--talkers", 4, "--evaluation-talkers", 4, "--recordings", 4) == 0
    assert len(read(tmp_path / "train" / "wav.scp")) == 4 * 4
    # three speakers are enrolled by three recordings and tested by one; one is only tested, by four
    assert len(read(tmp_path / "eval" / "trials")) == 3 * (3 * 1 + 4)
    assert sum(label == "target" for *_, label in read(tmp_path / "eval" / "trials")) == 3
    pair = (tmp_path / "eval" / "pair").read_text().splitlines()
    assert [Path(path).is_file() for path in pair] == [True, True]
    assert (tmp_path / "corpus" / "CN-Celeb_flac" / "eval" / "lists" / "enroll.map").exists()


def test_real_recordings(tmp_path, recordings):
    (recordings / "evaluation_speakers").write_text("b\nf\ng\n")
    assert prepare(tmp_path, "--speech-dir", recordings) == 0
    assert {spk_id for _, spk_id in read(tmp_path / "train" / "utt2spk")} == set("acdeh")
    assert read(tmp_path / "eval" / "wav.scp")[0] == ["b-r0", str(recordings / "b" / "r0.flac")]
    assert read(tmp_path / "eval" / "enroll.map")[0] == ["b-enroll", "b-r0", "b-r1", "b-r2"]
    trials = read(tmp_path / "eval" / "trials")
    assert len(trials) == 3 * 3 * 2
    assert trials[0] == ["b-enroll", "b-r3", "target"]
    pair = (tmp_path / "eval" / "pair").read_text().splitlines()
    assert pair == [str(recordings / "b" / name) for name in ("r0.flac", "r3.flac")]
    assert not (tmp_path / "corpus").exists()


def test_without_a_list_a_third_is_held_out_always_the_same(tmp_path, recordings):
    speakers = list("abcdefgh")
    first = prepare_mini.choose_evaluation_speakers(recordings, speakers)
    assert len(first) == 2
    assert first == prepare_mini.choose_evaluation_speakers(recordings, speakers[::-1])


def test_ids_that_have_the_speaker_already_keep_their_name(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a-1.wav").touch()
    (tmp_path / "a" / "2.wav").touch()
    recordings = prepare_mini.read_speech_dir(tmp_path)["a"]
    assert [recording.utt_id for recording in recordings] == ["a-2", "a-1"]


def test_a_speaker_with_one_recording_is_only_tested(recordings):
    for number in range(1, 5):
        (recordings / "a" / f"r{number}.flac").unlink()
    speakers = prepare_mini.read_speech_dir(recordings)
    evaluation = prepare_mini.make_evaluation({spk_id: speakers[spk_id] for spk_id in "ab"})
    assert list(evaluation.sources) == ["b-enroll"]
    assert ("b-enroll", "a-r0", False) in evaluation.trials


@pytest.mark.parametrize("named, message", [
    ("b\nx\nc\n", "evaluation_speakers:2: 'x' has no folder with recordings in "),
    ("b\n", "7 speakers to train and 1 to evaluate on; wanted at least two of each"),
    ("a\nb\nc\nd\ne\nf\ng\n", "1 speakers to train and 7 to evaluate on; wanted at least two of each"),
])
def test_held_out_speakers_refused(tmp_path, recordings, capsys, named, message):
    (recordings / "evaluation_speakers").write_text(named)
    assert prepare(tmp_path, "--speech-dir", recordings) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("folder, message", [
    ("nowhere", "nowhere: no such folder; wanted one folder a speaker in it"),
    ("empty", "empty: no SPEAKER/RECORDING file that ends in .flac .wav .ogg .opus .mp3"),
])
def test_speech_dirs_refused(tmp_path, capsys, folder, message):
    (tmp_path / "empty" / "speaker").mkdir(parents=True)
    assert prepare(tmp_path, "--speech-dir", tmp_path / folder) == 1
    assert message in capsys.readouterr().err


def test_enrolment_of_two_sample_rates_is_refused(tmp_path):
    for rate in (8000, 16000):
        soundfile.write(tmp_path / f"{rate}.flac", np.zeros(100), rate)
    with pytest.raises(ValueError, match="sample rates \\[8000, 16000\\] in one enrolment"):
        prepare_mini.concatenate([tmp_path / "8000.flac", tmp_path / "16000.flac"], tmp_path / "both.flac")
