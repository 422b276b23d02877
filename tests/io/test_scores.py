"""Score files: nine digits out, any order in, and no score that is not one."""

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.errors import DataError, DataErrors, MachineError
from speakerkit.io import scores as scores_module
from speakerkit.io import trial_lines
from speakerkit.io.scores import read_scores, write_scores
from speakerkit.io.trials import read_trials


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scores")


@pytest.fixture
def trials(tmp_path):
    (tmp_path / "trials").write_text("e1 t1 target\ne1 t2 nontarget\ne2 t1 nontarget\n", encoding="utf-8")
    return read_trials(tmp_path / "trials")


def text_of(trials, scores) -> str:
    stream = io.BytesIO()
    write_scores(stream, trials, np.array(scores))
    return stream.getvalue().decode("utf-8")


def test_lines_in_the_trials_order(trials, tmp_path):
    scores = [0.123456789012, -0.5, 1.0]
    assert text_of(trials, scores) == "e1 t1 0.123456789\ne1 t2 -0.5\ne2 t1 1.0\n"
    write_scores(tmp_path / "scores", trials, np.array(scores))
    assert (tmp_path / "scores").read_text(encoding="utf-8") == text_of(trials, scores)
    assert list(tmp_path.glob(".tmp-*")) == []


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_nine_significant_digits(scratch, scores):
    pairs = read_numbered(scratch, len(scores))
    written = [line.split(" ")[2] for line in text_of(pairs, scores).splitlines()]
    assert [float(text) for text in written] == [float(f"{score:.9g}") for score in scores]
    assert max(len(text.split("e")[0].replace(".", "").lstrip("-0").rstrip("0")) for text in written) <= 9


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20), st.booleans())
def test_float32_comes_back_exactly(scratch, scores, is_cosine):
    scores = np.array(scores, dtype=np.float32)
    scores = scores / (1 + np.abs(scores)) if is_cosine else scores
    pairs = read_numbered(scratch, len(scores))
    write_scores(scratch / "scores", pairs, scores)
    back = read_scores(scratch / "scores", pairs)
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back.astype(np.float32), scores)


def read_numbered(folder, num_trials):
    (folder / "trials").write_text("".join(f"e t{number}\n" for number in range(num_trials)), encoding="utf-8")
    return read_trials(folder / "trials")


def test_many_blocks_are_one_file(monkeypatch, trials):
    monkeypatch.setattr(scores_module, "_BLOCK_LINES", 2)
    assert text_of(trials, [1, 2, 3]) == "e1 t1 1.0\ne1 t2 2.0\ne2 t1 3.0\n"


def test_blocks_of_any_length_share_their_buffers(monkeypatch, scratch):
    monkeypatch.setattr(scores_module, "_BLOCK_LINES", 3)
    trials = read_numbered(scratch, 14)
    scores = np.array([0.123456789] * 3 + [0.5] * 3 + [1.0] * 3 + [-0.987654321] * 5)
    stream = io.BytesIO()
    sha256 = write_scores(stream, trials, scores)
    assert stream.getvalue().decode() == "".join(f"e t{n} {score}\n" for n, score in enumerate(scores.tolist()))
    assert sha256 == hashlib.sha256(stream.getvalue()).hexdigest()
    assert write_scores(scratch / "scores", trials, scores) == sha256


def test_a_reader_that_went_away_ends_the_writing(monkeypatch, trials):
    class Closed(io.RawIOBase):
        def write(self, data):
            raise BrokenPipeError

    monkeypatch.setattr(scores_module, "_BLOCK_LINES", 1)
    with pytest.raises(BrokenPipeError):
        write_scores(Closed(), trials, np.zeros(3))


def test_odd_ids_come_back(tmp_path):
    (tmp_path / "trials").write_text('"e1 #t,1\n中文/é.wav "q"\n', encoding="utf-8")
    trials = read_trials(tmp_path / "trials")
    write_scores(tmp_path / "scores", trials, np.array([0.5, 0.25]))
    assert (tmp_path / "scores").read_text(encoding="utf-8") == '"e1 #t,1 0.5\n中文/é.wav "q" 0.25\n'
    assert read_scores(tmp_path / "scores", trials).tolist() == [0.5, 0.25]


def test_the_writer_refuses_what_is_no_score(trials, tmp_path):
    with pytest.raises(ValueError, match="a score is not finite"):
        write_scores(tmp_path / "scores", trials, np.array([1, np.nan, 0]))
    with pytest.raises(ValueError, match="for 3 trials"):
        write_scores(tmp_path / "scores", trials, np.array([1.0]))
    assert not (tmp_path / "scores").exists()
    with pytest.raises(MachineError):
        write_scores(tmp_path, trials, np.zeros(3))


def read_both_ways(path, trials):
    """What read_scores says, which must be what the line-by-line reader alone says; an error as its text."""
    said = []
    for is_fast in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not is_fast:
                patch.setattr(trial_lines, "_read_blocks", lambda *_: None)
            try:
                said.append(read_scores(path, trials).tolist())
            except DataError as error:
                said.append(str(error))
    assert said[0] == said[1]
    return said[0]


@pytest.mark.parametrize("text", [
    "e1 t1 0.25\ne1 t2 -1.5e-3\ne2 t1 3\n",
    "e1 t1 .25\ne1 t2 -15E-4\ne2 t1 +3.\n",
    "e2 t1 3\ne1 t1 0.25\ne1 t2 -0.0015\n",                     # another order
    "e2\tt1\t3\r\ne1\tt1\t0.25\r\ne1  t2\t-0.0015\r\n\r\n",
    "e2 t1 3\ne1 t1 0.25\ne1 t2 -0.0015\ne2 t1 3.0\n",          # a pair again, with the same score
])
def test_scores_in_any_order(trials, tmp_path, text):
    (tmp_path / "scores").write_text(text, encoding="utf-8", newline="")
    assert read_both_ways(tmp_path / "scores", trials) == [0.25, -0.0015, 3.0]


@settings(deadline=None)
@given(st.permutations(range(8)))
def test_order_of_the_scores_never_matters(scratch, order):
    pairs = read_numbered(scratch, 8)
    (scratch / "scores").write_text("".join(f"e t{number} {number / 7}\n" for number in order), encoding="utf-8")
    assert read_scores(scratch / "scores", pairs).tolist() == [number / 7 for number in range(8)]


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "Infinity", "1_000", "１２", "0x10", "1,5", "high", "1e999",
                                  "-", "1d5"])
def test_what_is_no_score(trials, tmp_path, word):
    path = tmp_path / "scores"
    path.write_text(f"e1 t1 0.5\ne1 t2 {word}\ne2 t1 0\n", encoding="utf-8")
    assert read_both_ways(path, trials) == f"{path}:2: score is '{word}'; wanted a finite decimal number"


@pytest.mark.parametrize("text, fault", [
    ("", ": is empty; wanted '<enrol-id> <test-id> <score>' a line"),
    ("e1 t1 0.5\ne1 t2\n", ":2: 2 fields; wanted '<enrol-id> <test-id> <score>'"),
    ("e1\r t1 0.5\n", ":1: carriage return inside the line; wanted lines that end in LF or CRLF"),
    ("e1 t1 0.5 0.5 target\n", ":1: 5 fields; wanted '<enrol-id> <test-id> <score>'"),
    ("e1 t1 0.5\ne2 t1 0.5\ne1 t2 0.5\ne2 t1 0.6\n", ":4: 'e2 t1' has another score on an earlier line"),
])
def test_score_files_refused(trials, tmp_path, text, fault):
    path = tmp_path / "scores"
    path.write_text(text, encoding="utf-8")
    assert read_both_ways(path, trials) == f"{path}{fault}"


def test_scores_and_trials_that_differ(trials, tmp_path):
    path = tmp_path / "scores"
    path.write_text("e1 t1 0.5\ne2 t2 0.1\ne9 t1 0.1\n", encoding="utf-8")
    assert read_both_ways(path, trials) == (
        f"{path}: 2 of 3 trials in {trials.path} have no score: 'e1 t2', 'e2 t1'; "
        "2 of 3 scores are of no trial there: 'e2 t2' (line 2), 'e9 t1' (line 3)")


def test_five_examples_each_way(tmp_path):
    pairs = read_numbered(tmp_path, 1000)
    (tmp_path / "scores").write_text("".join(f"x t{number} 1\n" for number in range(2000)), encoding="utf-8")
    with pytest.raises(DataError) as refused:
        read_scores(tmp_path / "scores", pairs)
    assert str(refused.value).count("'") == 20
    assert "1,000 of 1,000 trials" in str(refused.value)
    assert "2,000 of 2,000 scores" in str(refused.value)


def test_a_repeated_trial_takes_its_one_score(tmp_path):
    (tmp_path / "trials").write_text("e t1 1\ne t2 0\ne t1 1\n", encoding="utf-8")
    trials, path = read_trials(tmp_path / "trials"), tmp_path / "scores"
    path.write_text("e t2 2\ne t1 1\n", encoding="utf-8")
    assert read_scores(path, trials).tolist() == [1, 2, 1]
    path.write_text("e t1 1\ne t2 2\ne t1 3\n", encoding="utf-8")  # in the trials' order, and yet two scores
    with pytest.raises(DataError, match=":3: 'e t1' has another score"):
        read_scores(path, trials)


pieces = st.sampled_from(["e1", "t1", "e2", "0.5", "-1", "nan", "1e5", " ", "  ", "\t", "\n", "\r\n", "\r", '"', "\0",
                          "\u00a0", "e1 t1 0.5\n", "e1 t2 0\n", "e2 t1 -3e-2\n"])


@settings(deadline=None)
@given(st.lists(pieces, max_size=25).map("".join))
def test_both_readers_say_the_same_of_any_text(scratch, text):
    (scratch / "trials").write_text("e1 t1\ne1 t2\ne2 t1\n", encoding="utf-8")
    (scratch / "scores").write_bytes(text.encode("utf-8"))
    read_both_ways(scratch / "scores", read_trials(scratch / "trials"))


def test_all_faults_are_found_in_one_pass(trials, tmp_path):
    (tmp_path / "scores").write_text("e1 t1 x\ne1 t2\ne2 t1 nan\n", encoding="utf-8")
    with pytest.raises(DataErrors) as refused:
        read_scores(tmp_path / "scores", trials)
    assert [fault.line for fault in refused.value.faults] == [1, 2, 3]
