"""Whose trials these are: by ids, by a table, and never against the labels."""

import numpy as np
import pytest

from speakerkit.errors import DataError
from speakerkit.io.trials import read_trials
from speakerkit.jobs.trial_speakers import find_speakers


@pytest.fixture
def listed(tmp_path):
    """``listed(lines)``: the trials of a file that holds them."""

    def read(*lines):
        (tmp_path / "trials").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return read_trials(tmp_path / "trials")

    return read


@pytest.mark.parametrize("lines, names, source", [
    (["a-enroll a-speech-01 1", "a-enroll b-vlog-02 0"], ["a", "b"], "before the first '-'"),
    (["a a-1 1", "a b-1 0"], ["a", "b"], "before the first '-'"),
    (["enroll/a.wav test/a-1.wav 1", "enroll/a-enroll.flac test/b-1.flac 0"], ["a", "b"], "before the first '-'"),
    # VoxCeleb's: the folder of a video can hold '-'
    (["id1/x-Y/1.wav id1/zz/2.wav 1", "id1/x-Y/1.wav id2/x-Y/1.wav 0"], ["id1", "id2"], "before the first '/'"),
])
def test_speakers_by_ids(listed, lines, names, source):
    trials = listed(*lines)
    found = find_speakers(trials)
    assert found.names == names
    assert found.source == f"the ids' text {source}"
    enrol, test = found.of_trials(trials)
    np.testing.assert_array_equal(enrol == test, trials.is_target)


def test_speakers_by_a_table(listed, tmp_path):
    trials = listed("model7 u1 1", "model7 u2 0", "s2-enroll u2 1", "s2 u1 0")
    (tmp_path / "utt2spk").write_text("model7 s1\nu1 s1\nu2 s2\nunused s3\n", encoding="utf-8")
    found = find_speakers(trials, tmp_path / "utt2spk")
    assert found.names == ["s1", "s2"]
    assert found.enrol.tolist() == [0, 1, 1]  # an enrolment may be named by its speaker
    assert found.test.tolist() == [0, 1]
    assert found.source == str(tmp_path / "utt2spk")


@pytest.mark.parametrize("lines, line, told", [
    (["a-1 a-2 1", "a-1 c-2 1"], 2, "'a-1 c-2' is a target, but its speakers are 'a' and 'c', by the ids' text before "
                                    "the first '-'; want ids that begin with their speaker, or --utt2spk"),
    (["a-1 a-2 0", "a-1 c-2 0", "a-1 a-3 1"], 1, "'a-1 a-2' is a nontarget, but both sides are of speaker 'a'"),
    (["e x 1", "e y 0", "f x 1"], 1, "'e x' is a target, but its speakers are 'e' and 'x', by the ids' text before the "
                                     "first '-', and so are 1 others; want ids"),
])
def test_ids_that_deny_the_labels(listed, lines, line, told):
    with pytest.raises(DataError) as caught:
        find_speakers(listed(*lines))
    assert caught.value.line == line
    assert caught.value.message.startswith(told)


def test_a_table_that_lacks_ids_or_denies_the_labels(listed, tmp_path):
    trials = listed("a u1 1", "b u2 0", "a u2 0")
    table = tmp_path / "utt2spk"
    table.write_text("a s\nu1 s\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        find_speakers(trials, table)
    assert [(fault.line, fault.message) for fault in caught.value.faults] == [
        (2, f"'b' has no speaker in {table}"), (2, f"'u2' has no speaker in {table}")]
    table.write_text("a s\nu1 s\nb t\nu2 t\n", encoding="utf-8")
    with pytest.raises(DataError, match="'b u2' is a nontarget, but both sides are of speaker 't', by .*utt2spk$"):
        find_speakers(trials, table)
