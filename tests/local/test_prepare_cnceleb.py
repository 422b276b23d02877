"""CN-Celeb's layout -> data directories: ids, lists that say .wav, subsets, and every refusal."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

import cnceleb_corpus
import prepare_cnceleb
import prepare_mini
from speakerkit.io.data_dir_checks import validate_data_dir


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """CN-Celeb with 4 dev, 3 CN-Celeb2 and 3 evaluation speakers of 6 recordings, all the same second of noise."""
    noise = tmp_path / "noise.flac"
    soundfile.write(noise, 0.1 * np.random.default_rng(0).standard_normal(16000), 16000, subtype="PCM_16")
    folder = tmp_path / "corpus"
    prepare_mini.lay_out_cnceleb(folder, [[noise] * 6] * 4, [[noise] * 6] * 3, [[noise] * 6] * 3)
    return folder


def prepare(corpus: Path, *options: str) -> tuple[int, Path, Path]:
    train_dir, eval_dir = corpus.parent / "data" / "train", corpus.parent / "data" / "eval"
    return prepare_cnceleb.main([*options, str(corpus), str(train_dir), str(eval_dir)]), train_dir, eval_dir


def read(path: Path) -> list[list[str]]:
    return [line.split(" ") for line in path.read_text().splitlines()]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_training_is_dev_and_cnceleb2(corpus):
    code, train_dir, _ = prepare(corpus)
    assert code == 0
    wav_scp, utt2spk = read(train_dir / "wav.scp"), read(train_dir / "utt2spk")
    assert len(wav_scp) == (4 + 3) * 6
    assert wav_scp[0] == ["id00000-interview-01-001", str(corpus / "CN-Celeb_flac/data/id00000/interview-01-001.flac")]
    assert utt2spk[-1] == ["id10002-vlog-01-002", "id10002"]
    assert [row[0] for row in wav_scp] == [row[0] for row in utt2spk] == sorted(row[0] for row in wav_scp)
    assert all(utt_id.startswith(f"{spk_id}-") for utt_id, spk_id in utt2spk)
    assert [row[0] for row in read(train_dir / "spk2utt")] == sorted({spk_id for _, spk_id in utt2spk})


def test_cnceleb2_can_be_left_out(corpus):
    (corpus / "CN-Celeb2_flac").rename(corpus.parent / "elsewhere")
    assert prepare(corpus)[0] == 1
    code, train_dir, _ = prepare(corpus, "--train-sets", "cnceleb1")
    assert code == 0
    assert {spk_id for _, spk_id in read(train_dir / "utt2spk")} == {f"id0000{i}" for i in range(4)}


def test_evaluation_has_enrolment_files_tests_and_sources(corpus):
    _, _, eval_dir = prepare(corpus)
    wav_scp = dict(read(eval_dir / "wav.scp"))
    eval_tree = corpus / "CN-Celeb_flac" / "eval"
    assert wav_scp["id00800-enroll"] == str(eval_tree / "enroll" / "id00800-enroll.flac")
    assert wav_scp["id00800-speech-01-002"] == str(eval_tree / "test" / "id00800-speech-01-002.flac")
    assert wav_scp["id00800-interview-01-001"] == str(corpus / "CN-Celeb_flac/data/id00800/interview-01-001.flac")
    # two speakers with an enrolment file, three sources and three tests; one with six tests
    assert len(wav_scp) == 2 * (1 + 3 + 3) + 6
    assert dict(read(eval_dir / "utt2spk"))["id00800-enroll"] == "id00800"
    assert read(eval_dir / "enroll.map")[0] == [
        "id00800-enroll", "id00800-interview-01-001", "id00800-interview-01-002", "id00800-speech-01-001"]


def test_trials_keep_their_order_and_have_words_for_labels(corpus):
    _, _, eval_dir = prepare(corpus)
    trials = read(eval_dir / "trials")
    assert len(trials) == 2 * (3 + 3 + 6)
    assert trials[0] == ["id00800-enroll", "id00800-speech-01-002", "target"]
    assert trials[3] == ["id00800-enroll", "id00801-speech-01-002", "nontarget"]
    assert sum(label == "target" for *_, label in trials) == 6


def test_the_speech_subset_is_that_of_the_test_utterances_genre(corpus):
    _, _, eval_dir = prepare(corpus)
    speech = read(eval_dir / "trials.speech")
    assert speech == [trial for trial in read(eval_dir / "trials") if "-speech-" in trial[1]]
    assert len(speech) == 2 * (1 + 1 + 2)


def test_counts_that_are_not_the_published_ones_are_told(corpus, capsys):
    prepare(corpus)
    told = capsys.readouterr().err
    assert "warning: CN-Celeb1 training speakers: 4 (published: 797)" in told
    assert "warning: trials: 24 (published: 3,484,292)" in told
    assert "warning: CN-Celeb1 utterances of genre interview: 14 (published: 59,556)" in told
    assert "39 of 39 counts are not those of the published corpora: a part, a miniature or another release" in told


def test_the_published_counts_can_be_demanded(corpus, capsys):
    code, train_dir, _ = prepare(corpus, "--require-published")
    assert code == 1
    assert "prepare_cnceleb.py: " + f"{corpus}: CN-Celeb1 training speakers: 4 (published: 797)" in (
        capsys.readouterr().err)
    assert not train_dir.exists()


def test_the_published_corpus_is_told_as_such(corpus, capsys, monkeypatch):
    counts = {}
    monkeypatch.setattr(prepare_cnceleb, "tell_counts", lambda found, **others: counts.update(found))
    prepare(corpus)
    monkeypatch.undo()
    for name, count in counts.items():
        monkeypatch.setitem(prepare_cnceleb.PUBLISHED_COUNTS, name, count)
    assert prepare(corpus, "--require-published")[0] == 0
    assert "all 39 counts are those of the published corpora" in capsys.readouterr().err
    monkeypatch.setattr(prepare_cnceleb, "NEARLY", 0.9)  # 12 of 13
    monkeypatch.setitem(prepare_cnceleb.PUBLISHED_COUNTS, "test utterances", counts["test utterances"] + 1)
    prepare(corpus)
    assert "1 of 39 counts are not those of the published corpora: nearly complete: was everything unpacked?" in (
        capsys.readouterr().err)


def test_published_counts_agree_with_each_other():
    published = prepare_cnceleb.PUBLISHED_COUNTS
    assert sum(count for count, _ in cnceleb_corpus.GENRES.values()) == published["CN-Celeb1 utterances"]
    assert sum(count for _, count in cnceleb_corpus.GENRES.values()) == published["test utterances"]
    assert published["enrolments"] * published["test utterances"] == published["trials"]
    assert published["target trials"] + published["nontarget trials"] == published["trials"]
    assert published["enrolments"] * cnceleb_corpus.GENRES["speech"][1] == published["speech trials"]
    for kind in ("speakers", "utterances"):
        assert (published[f"CN-Celeb1 training {kind}"] + published[f"CN-Celeb2 training {kind}"]
                == published[f"training {kind}"])
        assert (published[f"CN-Celeb1 training {kind}"] + published[f"CN-Celeb1 evaluation {kind}"]
                == published[f"CN-Celeb1 {kind}"])


def test_conditions_of_trials(corpus):
    _, _, eval_dir = prepare(corpus)
    genres, seconds = (dict(read(eval_dir / name)) for name in ("utt2genre", "utt2dur"))
    utt_ids = [row[0] for row in read(eval_dir / "wav.scp")]
    assert list(seconds) == utt_ids
    assert set(genres) == {utt_id for utt_id in utt_ids if not utt_id.endswith("-enroll")}
    assert all(utt_id.split("-")[1] == genre for utt_id, genre in genres.items())
    assert seconds["id00800-enroll"] == "3.000" and seconds["id00801-vlog-01-001"] == "1.000"


def test_short_recordings_are_joined_where_wanted(corpus, capsys):
    code, train_dir, _ = prepare(corpus, "--join-below", "1.5", "--nj", "1")
    assert code == 0
    # interview, speech and vlog have two seconds of one second each: a pair of each speaker
    assert read(train_dir / "utt2utts")[0] == ["id00000-interview-01-001-comb2", "id00000-interview-01-001",
                                               "id00000-interview-01-002"]
    assert len(read(train_dir / "wav.scp")) == 7 * 6
    assert len(read(train_dir / "utt2spk")) == len(read(train_dir / "utt2utts")) == 7 * 3
    assert "42 recordings (0.0 h) joined to 21 utterances of at least 1.5 s" in capsys.readouterr().err
    assert validate_data_dir(train_dir)[0]["num_utterances"] == 21

    assert prepare(corpus)[0] == 0  # without joining again, nothing of it stays
    assert not (train_dir / "utt2utts").exists()
    assert len(read(train_dir / "utt2spk")) == 7 * 6


def test_the_published_number_of_joined_utterances_is_compared(corpus, capsys):
    prepare(corpus, "--join-below", "5")
    told = capsys.readouterr().err
    assert "joined training utterances: 21 (published: 508,228)" in told  # less than 5 s of each genre


def test_wav_of_the_first_release_is_found_too(corpus):
    (corpus / "CN-Celeb_flac").rename(corpus / "CN-Celeb")
    for path in (corpus / "CN-Celeb").rglob("*.flac"):
        path.rename(path.with_suffix(".wav"))
    code, train_dir, _ = prepare(corpus)
    assert code == 0
    assert read(train_dir / "wav.scp")[0][1].endswith("CN-Celeb/data/id00000/interview-01-001.wav")


def test_other_files_in_a_speakers_folder_are_no_recordings(corpus):
    folder = corpus / "CN-Celeb_flac" / "data" / "id00000"
    for name in ("README.TXT", "._interview-01-001.flac", "notes"):
        (folder / name).write_text("x")
    assert prepare(corpus)[0] == 0


def test_running_again_gives_the_same_bytes(corpus):
    _, train_dir, eval_dir = prepare(corpus)
    before = {path: path.read_bytes() for folder in (train_dir, eval_dir) for path in folder.iterdir()}
    assert prepare(corpus)[0] == 0
    assert before == {path: path.read_bytes() for folder in (train_dir, eval_dir) for path in folder.iterdir()}


def remove_tree(tree: Path) -> None:
    (tree / "data").rename(tree / "dada")


def add_unknown_speaker(tree: Path) -> None:
    edit(tree / "dev" / "dev.lst", "id00000\n", "id00000\nid00007\n")


def empty_speaker(tree: Path) -> None:
    for path in (tree / "data" / "id00001").iterdir():
        path.unlink()


def two_endings(tree: Path) -> None:
    os.link(tree / "data/id00002/vlog-01-001.flac", tree / "data/id00002/vlog-01-001.wav")


def train_on_an_evaluation_speaker(tree: Path) -> None:
    edit(tree / "dev" / "dev.lst", "id00003\n", "id00801\n")


def name_a_speaker_twice(tree: Path) -> None:
    edit(tree / "dev" / "dev.lst", "id00000\n", "id00000\nid00000\n")


def lose_a_test_file(tree: Path) -> None:
    (tree / "eval/test/id00801-vlog-01-001.flac").unlink()


def lose_an_enrolment_file(tree: Path) -> None:
    (tree / "eval/enroll/id00800-enroll.flac").unlink()


def lose_an_enrolment_source(tree: Path) -> None:
    (tree / "data/id00800/interview-01-002.flac").unlink()


def swap_speaker_of_a_source(tree: Path) -> None:
    edit(tree / "eval/lists/enroll.map", "id00800/interview-01-001.wav", "id00801/interview-01-001.wav")


def forget_an_enrolment_in_the_map(tree: Path) -> None:
    path = tree / "eval/lists/enroll.map"
    path.write_text(path.read_text().splitlines()[0] + "\n")


def flip_a_label(tree: Path) -> None:
    edit(tree / "eval/lists/trials.lst", "id00800-speech-01-002.wav 1", "id00800-speech-01-002.wav 0")


def drop_the_labels(tree: Path) -> None:
    path = tree / "eval/lists/trials.lst"
    path.write_text("".join(line.rpartition(" ")[0] + "\n" for line in path.read_text().splitlines()))


def name_an_unknown_test(tree: Path) -> None:
    edit(tree / "eval/lists/trials.lst", "test/id00801-vlog-01-001.wav", "test/id00801-vlog-09-001.wav")


@pytest.mark.parametrize("damage, message", [
    (remove_tree, "corpus: has no folder CN-Celeb_flac with a data folder in it"),
    (add_unknown_speaker, "dev.lst:2: 'id00007': "),
    (empty_speaker, "dev.lst:2: 'id00001' has no recording in "),
    (two_endings, "'vlog-01-001' is there with two endings; keep one of them"),
    (train_on_an_evaluation_speaker, "corpus: speaker 'id00801' is in training and in evaluation"),
    (lose_a_test_file, "test.lst:5: 'test/id00801-vlog-01-001.wav' is not in "),
    (lose_an_enrolment_file, "enroll.lst:1: 'enroll/id00800-enroll.wav' is not in "),
    (lose_an_enrolment_source, "enroll.map:1: 'id00800/interview-01-002.wav' is no recording of id00800 in "),
    (swap_speaker_of_a_source, "enroll.map:1: 'id00801/interview-01-001.wav' is no recording of id00800 in "),
    (forget_an_enrolment_in_the_map, "enroll.map: has no line for 'id00801-enroll' of enroll.lst"),
    (name_a_speaker_twice, "dev.lst:2: 'id00000' again; first on line 1"),
    (flip_a_label, "trials.lst:1: label of id00800-enroll and id00800-speech-01-002; wanted target"),
    (drop_the_labels, "trials.lst: no labels; wanted '<enrol-id> <test path> 1|0' a line"),
    (name_an_unknown_test, "trials.lst:5: 'test/id00801-vlog-09-001.wav' is not in test.lst"),
])
def test_refusals(corpus, capsys, damage, message):
    damage(corpus / "CN-Celeb_flac")
    code, train_dir, eval_dir = prepare(corpus)
    assert code == 1
    assert message in capsys.readouterr().err
    assert not train_dir.exists()
    assert not eval_dir.exists()


def test_a_tree_given_for_its_parent(corpus, capsys):
    args = [str(corpus / "CN-Celeb_flac"), str(corpus.parent / "t"), str(corpus.parent / "e")]
    assert prepare_cnceleb.main(args) == 1
    assert f"it is such a folder itself: give {corpus}" in capsys.readouterr().err
