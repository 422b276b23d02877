"""Score files of every kind, and labels that come with them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.cli import score_files
from speakerkit.errors import DataError
from speakerkit.io import trial_lines
from speakerkit.io.score_lines import SCORE_FORMATS, read_score_lines
from speakerkit.io.scored_trials import read_scored_trials

# The same three trials in every format.
TEXTS = {
    "score": "e1 t1 0.25\ne1 t2 -1.5\ne2 t1 1\n",
    "score-label": "e1 t1 0.25 target\ne1 t2 -1.5 nontarget\ne2 t1 1 target\n",
    "label-score": "e1 t1 target 0.25\ne1 t2 nontarget -1.5\ne2 t1 target 1\n",
    "joined": "e1*t1 0.25 1\ne1*t2 -1.5 0\ne2*t1 1 1\n",
}
ROWS = [("e1", "t1", 0.25, True), ("e1", "t2", -1.5, False), ("e2", "t1", 1.0, True)]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def rows_of(lines) -> list[tuple]:
    labels = [None] * len(lines.scores) if lines.is_target is None else lines.is_target.tolist()
    ids = [(lines.enrol_ids[e], lines.test_ids[t]) for e, t in zip(lines.enrol_index, lines.test_index, strict=True)]
    return [(*pair, score, label) for pair, score, label in zip(ids, lines.scores.tolist(), labels, strict=True)]


def read_both_ways(path: Path, score_format: str | None = None) -> list[tuple] | str:
    """By blocks and line by line: what the lines say, or the refusal; both must be equal."""
    said = []
    for fast in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not fast:
                patch.setattr(trial_lines, "_read_blocks", lambda *args: None)
            try:
                said.append(rows_of(read_score_lines(path, score_format)))
            except DataError as error:
                said.append(str(error))
    assert said[0] == said[1]
    return said[0]


@pytest.mark.parametrize("name", SCORE_FORMATS)
def test_each_format_is_seen_and_can_be_named(tmp_path, name):
    wanted = [(*row[:3], None if name == "score" else row[3]) for row in ROWS]
    for text in (TEXTS[name], TEXTS[name].replace(" ", "\t"), TEXTS[name].replace("\n", "\r\n"),
                 TEXTS[name].replace(" ", "  ").rstrip()):
        assert read_both_ways(written(tmp_path / "scores", text)) == wanted
        assert read_both_ways(tmp_path / "scores", name) == wanted


@pytest.mark.parametrize("text, wanted", [
    ("e t 0.5 1\ne u 1 0\n", [("e", "t", 0.5, True), ("e", "u", 1.0, False)]),   # 0.5 can't be a label
    ("e t 1 0.5\ne u 0 1\n", [("e", "t", 0.5, True), ("e", "u", 1.0, False)]),
    ("e t 1 target\n", [("e", "t", 1.0, True)]),
    ("e t nontarget 0\n", [("e", "t", 0.0, False)]),
    ("e*x t 0.5\n", [("e*x", "t", 0.5, None)]),  # a score stands last, so nothing is joined
])
def test_what_a_first_line_tells(tmp_path, text, wanted):
    assert read_both_ways(written(tmp_path / "scores", text)) == wanted


def test_the_command_line_names_every_format():
    assert tuple(SCORE_FORMATS) == score_files.SCORE_FORMATS


@pytest.mark.parametrize("name, text, fault", [
    (None, "e t 1 0\n", ":1: '1 0': which of them is the label? Give --scores-format score-label or label-score"),
    (None, "e t target\ne u x\n", ":1: 'target' is a label and no score: is this the trial list? Its scores stand in "
                                   "another file"),
    (None, "e t 0.5 yes\n", ":1: label is 'yes'; want target/nontarget or 1/0, one vocabulary a file"),
    (None, "e t 0.5 target\ne u 0.5 1\n", ":2: label is '1'; want target/nontarget or 1/0, one vocabulary a file, and "
                                          "the lines before have nontarget/target"),
    (None, "e t 0.5 target\ne u 0.5\n", ":2: 3 fields; wanted '<enrol-id> <test-id> <score> target|nontarget'"),
    (None, "e t target nan\n", ":1: score is 'nan'; wanted a finite decimal number"),
    (None, "e*t 0.5 1\neu 0.5 1\n", ":2: 'eu' is no '<enrol-id>*<test-id>'"),
    (None, "e*t 0.5 1\ne*u*v 0.5 1\nxy 1 1\n", ":2: 'e*u*v' is no '<enrol-id>*<test-id>'\n{path}:3: 'xy' is no "
                                               "'<enrol-id>*<test-id>'"),
    (None, "e*t 0.5 1\ne*u 0.5\n", ":2: 2 fields; wanted '<enrol-id>*<test-id> <score> target|nontarget'"),
    ("label-score", "e t 0.5\n", ":1: 3 fields; wanted '<enrol-id> <test-id> target|nontarget <score>'"),
    ("score", "e t 0.5 target\n", ":1: 4 fields; wanted '<enrol-id> <test-id> <score>'"),
    ("score-label", "", ": is empty; wanted '<enrol-id> <test-id> <score> target|nontarget' a line"),
])
def test_score_lines_refused(tmp_path, name, text, fault):
    path = written(tmp_path / "scores", text)
    assert read_both_ways(path, name) == f"{path}{fault.format(path=path)}"


pieces = st.sampled_from(["e", "t*", "*", "0.5", "1", "0", "target", " ", "\t", "\n", "\r\n", "\r", '"', "\0", "\u00a0",
                          *("".join(text.splitlines(keepends=True)[:2]) for text in TEXTS.values())])


@settings(deadline=None)
@given(st.lists(pieces, max_size=20).map("".join), st.sampled_from([None, *SCORE_FORMATS]))
def test_both_readers_say_the_same_of_any_text(scratch, text, name):
    read_both_ways(written(scratch / "any", text), name)


# --- with trials ------------------------------------------------------------------------------------------------------

TRIALS = "e2 t1 target\ne1 t1 target\ne1 t2 nontarget\n"


@pytest.mark.parametrize("name", SCORE_FORMATS)
def test_scores_in_both_orders(tmp_path, name):
    scored = read_scored_trials(written(tmp_path / "trials", TRIALS), written(tmp_path / "scores", TEXTS[name]))
    assert scored.scores.tolist() == [1, 0.25, -1.5]
    scores, is_target = scored.in_file_order()
    assert (scores.tolist(), is_target.tolist()) == ([0.25, -1.5, 1], [True, False, True])
    assert scored.scores_path == str(tmp_path / "scores")


@pytest.mark.parametrize("name", ["score-label", "label-score", "joined"])
def test_one_file_is_enough(tmp_path, name):
    scored = read_scored_trials(None, written(tmp_path / "scores", TEXTS[name]))
    assert scored.scores.tolist() == [0.25, -1.5, 1]
    assert scored.trials.is_target.tolist() == [True, False, True]
    assert scored.trials.sha256 == scored.scores_sha256
    assert [array.tolist() for array in scored.in_file_order()] == [[0.25, -1.5, 1], [True, False, True]]


def test_a_repeated_pair_counts_a_line_in_the_files_order(tmp_path):
    trials = written(tmp_path / "trials", "e t 1\ne u 0\ne t 1\n")
    scored = read_scored_trials(trials, written(tmp_path / "scores", "e u 2\ne t 1\n"))
    assert scored.scores.tolist() == [1, 2, 1]
    assert [array.tolist() for array in scored.in_file_order()] == [[2, 1], [False, True]]
    scored = read_scored_trials(None, written(tmp_path / "scores", "e u 2 0\ne t 1 1\ne t 1 1\n"))
    assert scored.trials.num_repeated == 1
    assert scored.scores.tolist() == [2, 1, 1]


@settings(deadline=None)
@given(st.permutations(range(9)))
def test_file_order_is_the_files(scratch, order):
    written(scratch / "trials", "".join(f"e t{number} {int(number % 4 == 0)}\n" for number in range(9)))
    written(scratch / "scores", "".join(f"e t{number} {number / 7}\n" for number in order))
    scores, is_target = read_scored_trials(scratch / "trials", scratch / "scores").in_file_order()
    np.testing.assert_array_equal(scores, np.array(order) / 7)
    np.testing.assert_array_equal(is_target, np.array(order) % 4 == 0)


@pytest.mark.parametrize("trials, scores, fault", [
    (None, "e t 0.5\n", "scores: scores have no labels; give the labelled trials too"),
    (None, "e t 0.5 1\n", "scores: no nontarget trials: EER needs both classes"),
    (None, "e t 0.5 0\n", "scores: no target trials: EER needs both classes"),
    (None, "e t 0.5 0\ne t 0.5 1\n", "scores:2: 'e t' is target here and nontarget on line 1"),
    (None, "e t 0.5 0\ne u 1 1\ne t 0.7 0\n", "scores:3: 'e t' has another score on an earlier line"),
    ("e t 1\ne u 0\n", "e u 1 target\ne t 2 nontarget\n", "scores:1: 'e u' is target here and nontarget in trials\n"
                                                          "scores:2: 'e t' is nontarget here and target in trials"),
    ("e t 1\ne u 0\n", "e t .1 1\ne u 2 1\n", "scores:2: 'e u' is target here and nontarget in trials"),
    ("e t\ne u\n", "e t .1 1\ne u 2 0\n", "trials: trials have no labels: EER needs both classes"),
    ("1 e t\n0 e u\n", "e t 1 1\ne u 2 0\n", "trials:1: first field '1' is a label; wanted '<enrol-id> <test-id> "
                                             "<label>', or give --trials-format label-first"),
])
def test_scored_trials_refused(tmp_path, monkeypatch, trials, scores, fault):
    monkeypatch.chdir(tmp_path)
    for name, text in (("trials", trials), ("scores", scores)):
        if text is not None:
            written(tmp_path / name, text)
    with pytest.raises(DataError) as refused:
        read_scored_trials(None if trials is None else "trials", "scores")
    assert str(refused.value) == fault
