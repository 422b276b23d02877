"""Trials into cells, by words, bins and whether both sides agree."""

import numpy as np
import pytest

from speakerkit.errors import DataError
from speakerkit.io.trials import read_trials
from speakerkit.jobs import conditions
from speakerkit.jobs.conditions import UNKNOWN, Factor, find_conditions, read_factor_tables

TRIALS = "e1 a\ne1 b\ne1 c\ne2 a\ne2 b\ne2 c\n"


@pytest.fixture
def find(tmp_path, monkeypatch):
    """``find("test=utt2x:1,2", enrol_map={})`` on TRIALS: the name of each trial's cell."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trials").write_text(TRIALS, encoding="utf-8")

    def run(*factors: Factor, enrol_map: dict | None = None) -> list[tuple[str, ...]]:
        found = find_conditions(read_trials("trials"), factors, read_factor_tables(factors)[0], enrol_map or {})
        assert len(found.names) == len(set(found.names)) == len(np.unique(found.cells))
        assert [set(column) <= set(values) for column, values in zip(zip(*found.names, strict=True), found.values,
                                                                     strict=True)] == [True] * len(factors)
        return [found.names[cell] for cell in found.cells]

    return run


def write(name, text):
    with open(name, "w", encoding="utf-8") as stream:
        stream.write(text)


def test_words_of_either_side(find):
    write("utt2genre", "e1 drama\ne2 vlog\na vlog\nb drama\nc drama\n")
    assert find(Factor("test", "utt2genre")) == [("vlog",), ("drama",), ("drama",)] * 2
    assert find(Factor("enrol", "utt2genre")) == [("drama",)] * 3 + [("vlog",)] * 3
    assert find(Factor("pair", "utt2genre")) == [(word,) for word in
                                                 ("different", "same", "same", "same", "different", "different")]
    assert find(Factor("enrol", "utt2genre"), Factor("test", "utt2genre")) == [
        ("drama", "vlog"), ("drama", "drama"), ("drama", "drama"), ("vlog", "vlog"), ("vlog", "drama"),
        ("vlog", "drama")]


def test_an_edge_lies_in_the_bin_above(find):
    write("utt2dur", "a 1.99\nb 2\nc 5.0\n")
    assert find(Factor("test", "utt2dur", (2, 5))) == [("<2",), ("2..5",), (">=5",)] * 2
    assert find(Factor("test", "utt2dur", (7.5,))) == [("<7.5",)] * 6


def test_what_an_enrolment_is_made_of(find):
    """Numbers add up, words are joined where they differ; an enrolment in the table speaks for itself."""
    enrol_map = {"e1": ["u1", "u2"], "e2": ["u2", "u3"]}
    write("utt2dur", "u1 3\nu2 4\nu3 100\ne2 1\n")
    assert find(Factor("enrol", "utt2dur", (2, 7, 8)), enrol_map=enrol_map) == [("7..8",)] * 3 + [("<2",)] * 3
    write("utt2genre", "u1 vlog\nu2 vlog\nu3 drama\n")
    assert find(Factor("enrol", "utt2genre"), enrol_map=enrol_map) == [("vlog",)] * 3 + [("drama+vlog",)] * 3


def test_ids_without_a_value_are_told_and_stand_apart(find, caplog):
    write("utt2sex", "e1 f\na f\nb m\n")
    assert find(Factor("test", "utt2sex")) == [("f",), ("m",), (UNKNOWN,)] * 2
    assert caplog.messages == ["utt2sex: no value for 1 of 3 test ids, such as 'c'; their trials stand under (unknown)"]
    assert find(Factor("pair", "utt2sex")) == [("same",), ("different",), (UNKNOWN,)] + [(UNKNOWN,)] * 3
    write("utt2dur", "a 1\nb 3\n")
    assert find(Factor("test", "utt2dur", (2,))) == [("<2",), (">=2",), (UNKNOWN,)] * 2
    enrol_map = {"e2": ["a", "nowhere"]}  # one of its utterances has no value, so the sum isn't known
    write("utt2dur", "e1 1\na 1\n")
    assert find(Factor("enrol", "utt2dur", (2,)), enrol_map=enrol_map) == [("<2",)] * 3 + [(UNKNOWN,)] * 3


def test_many_possible_cells_and_few_trials(find):
    """More combinations than trials: counted by another way, with the same result."""
    write("utt2a", "".join(f"{name} {name}\n" for name in ("e1", "e2", "a", "b", "c")))
    crossed = [Factor("enrol", "utt2a"), Factor("test", "utt2a"), Factor("test", "utt2a")]
    assert find(*crossed) == [(*line.split(), line.split()[1]) for line in TRIALS.splitlines()]


@pytest.mark.parametrize("factor, text, told", [
    (Factor("test", "utt2x"), "z f\n", "utt2x: has a value for none of the 3 test ids, such as 'a'"),
    (Factor("pair", "utt2x"), "a f\n", "utt2x: has a value for none of the 2 enrol ids, such as 'e1'"),
    (Factor("test", "utt2x", (1,)), "a 1\nb 2s\nc nan\n",
     "utt2x:2: value is '2s'; wanted a finite decimal number\nutt2x:3: value is 'nan'; wanted a finite decimal number"),
    (Factor("test", "utt2x"), "a\nb 1 2\n",
     "utt2x:1: 1 fields; wanted '<id> <value>'\nutt2x:2: 3 fields; wanted '<id> <value>'"),
    (Factor("test", "utt2x"), "a 1\na 1\n", "utt2x:2: 'a' again; first on line 1"),
    (Factor("test", "missing"), "", "missing: no such file"),
])
def test_what_is_refused(find, factor, text, told):
    write("utt2x", text)
    with pytest.raises(DataError) as caught:
        find(factor)
    assert str(caught.value) == told


def test_numbers_without_edges_are_refused(find, monkeypatch):
    monkeypatch.setattr(conditions, "MOST_VALUES", 2)
    write("utt2dur", "a 1\nb 2\nc 3\n")
    with pytest.raises(DataError, match=r"utt2dur: 3 different values; at most 2 make a breakdown "
                                        r"\(numbers need edges, as in test=utt2dur:2,5,10\)"):
        find(Factor("test", "utt2dur"))


@pytest.mark.parametrize("table, name", [
    ("data/eval/utt2genre", "test_genre"), ("utt2dur.txt", "test_dur"), ("/dev/fd/63", "test_63"),
    ("enrol2num_utts", "test_num_utts"), ("rooms", "test_rooms"), ("utt2", "test_utt2"),
])
def test_a_factor_is_named_after_its_table(table, name):
    assert Factor("test", table).name == name


def test_impossible_factors():
    for factor in (("both", "x"), ("test", "x", ()), ("test", "x", (2, 2)), ("test", "x", (3, 1))):
        with pytest.raises(ValueError, match="want"):
            Factor(*factor)
