"""plot-det as a user meets it."""

import json
import re

import numpy as np
import pytest

from speakerkit.cli.plot_det import main

TRIALS = "".join(f"e t{number} {'target' if number in (2, 4, 5) else 'nontarget'}\n" for number in range(6))
# Scores 1..6 of n n t n t t: EER 1/3 at 4; at costs 1, 1 and p 0.01 or 0.001, 5 misses 1/3 and accepts no nontarget.
SCORES = "".join(f"e t{number} {number + 1}\n" for number in range(6))
ONE_SYSTEM = """num_target 3
num_nontarget 3
eer_percent 33.3333
eer_threshold 4.0000
min_dcf 0.3333
min_dcf_threshold 5.0000
dcf_p_target 0.01
dcf_c_miss 1
dcf_c_fa 1
min_dcf 0.3333
min_dcf_threshold 5.0000
dcf_p_target 0.001
dcf_c_miss 1
dcf_c_fa 1
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trials").write_text(TRIALS, encoding="utf-8")
    (tmp_path / "a.scores").write_text(SCORES, encoding="utf-8")
    (tmp_path / "b.scores").write_text("".join(reversed(SCORES.splitlines(keepends=True))), encoding="utf-8")
    return tmp_path


def test_two_systems(folder, capsys):
    assert main(["trials", "a.scores", "b.scores", "det.svg", "--quiet", "--json", "result.json"]) == 0
    assert capsys.readouterr() == (f"system a.scores\n{ONE_SYSTEM}system b.scores\n{ONE_SYSTEM}", "")
    picture = (folder / "det.svg").read_text(encoding="utf-8")
    for text in ("a.scores, EER 33.33 %", "b.scores, EER 33.33 %", "EER", "minDCF(0.01, 1, 1)", "minDCF(0.001, 1, 1)"):
        assert f"<!-- {text} -->" in picture
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert [system["protocol"]["scores"] for system in result["systems"]] == ["a.scores", "b.scores"]


def test_names_points_and_title(folder, capsys):
    assert main(["trials", "a.scores", "det.svg", "--names", "ResNet34", "--point", "0.05,10,1", "--title",
                 "All trials", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("system ResNet34\n")
    picture = (folder / "det.svg").read_text(encoding="utf-8")
    for text in ("ResNet34, EER 33.33 %", "minDCF(0.05, 10, 1)", "All trials"):
        assert f"<!-- {text} -->" in picture
    assert "minDCF(0.01" not in picture


def test_labels_in_the_score_file(folder, capsys):
    labels = [line.split()[2] for line in TRIALS.splitlines()]
    (folder / "list.score").write_text("".join(f"{line} {label}\n" for line, label in
                                               zip(SCORES.splitlines(), labels, strict=True)), encoding="utf-8")
    assert main(["list.score", "--quiet", "det.png"]) == 0
    assert capsys.readouterr().out == f"system list.score\n{ONE_SYSTEM}"
    assert (folder / "det.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_do_and_overwrite(folder, capsys):
    words = ["trials", "a.scores", "det.svg"]
    assert main(words) == 0
    first, picture = capsys.readouterr().out, (folder / "det.svg").read_bytes()
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (first, "plot-det: det.svg: nothing to do, it is up to date\n")
    assert main([*words, "--title", "new"]) == 2
    assert capsys.readouterr().err == (
        'plot-det: det.svg: exists already: made with title "", now "new"; give --overwrite to replace it\n')
    assert (folder / "det.svg").read_bytes() == picture
    assert main([*words, "--title", "new", "--overwrite"]) == 0
    assert b"<!-- new -->" in (folder / "det.svg").read_bytes()


@pytest.mark.parametrize("words, code, told", [
    (["trials", "a.scores", "det.gif"], 2, "det.gif: ends in neither .png nor .svg\n"),
    (["trials", "a.scores", "det.svg", "--names", "x", "y"], 2, "2 names for 1 score files; want one each\n"),
    (["trials", "a.scores", "a.scores", "det.svg"], 2, "'a.scores' twice; want another name for each system\n"),
    (["trials", "a.png", "./a.png"], 2, "./a.png is one of the inputs\n"),
    (["trials", "a.scores", "det.svg", "--point", "0.05"], 2, "argument --point: '0.05' is not P_TARGET,C_MISS,C_FA\n"
                                                              "hint: plot-det --help\n"),
    (["trials", "a.scores", "det.svg", "--point", "1,1,1"], 2, "argument --point: '1' is not a number from 1e-09 "
                                                               "to 0.999999999\nhint: plot-det --help\n"),
    (["a.scores", "det.svg"], 1, "a.scores: scores have no labels; give the labelled trials too\n"),
    (["trials", "nowhere", "det.svg"], 1, "nowhere: no such file\n"),
    (["trials"], 2, "the following arguments are required: picture\nhint: plot-det --help\n"),
])
def test_what_is_refused(folder, capsys, words, code, told):
    assert main(words) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"plot-det: {told}")
    assert not list(folder.glob("det.*"))


def test_without_matplotlib(folder, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert main(["trials", "a.scores", "det.svg"]) == 2
    assert capsys.readouterr().err == (
        "plot-det: a drawing needs matplotlib, which isn't installed: pip install 'speakerkit[plot]'\n")


# --- intervals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def twelve_speakers(folder):
    """Trials of 12 speakers whose ids begin with them, and scores with effects of speakers."""
    rng = np.random.default_rng(4)
    effects, lines, scores = rng.normal(0, 0.3, 12), [], []
    for enrol in range(12):
        for test in range(12):
            for number in range(3):
                pair = f"s{enrol:02d}-enroll s{test:02d}-{number}"
                lines.append(f"{pair} {'target' if enrol == test else 'nontarget'}\n")
                scores.append(f"{pair} {(enrol == test) + effects[enrol] + effects[test] + rng.normal(0, 0.5):.4f}\n")
    (folder / "trials").write_text("".join(lines), encoding="utf-8")
    (folder / "a.scores").write_text("".join(scores), encoding="utf-8")
    return folder


NARROW = "plot-det: warning: only 12 speakers have target trials: the intervals are likely too narrow\n"
SHADED = "<!-- 95 % interval, over speakers -->"


def test_intervals_are_shaded(twelve_speakers, capsys):
    assert main(["trials", "a.scores", "det.svg", "--replicates", "50", "--seed", "7", "--json", "result.json"]) == 0
    assert capsys.readouterr().err == NARROW
    assert SHADED in (twelve_speakers / "det.svg").read_text(encoding="utf-8")
    result = json.loads((twelve_speakers / "result.json").read_text(encoding="utf-8"))
    assert result["intervals"] == {"level": 0.95, "num_replicates": 50, "seed": 7, "num_target_speakers": 12}
    assert main(["trials", "a.scores", "none.svg", "--replicates", "0"]) == 0
    assert capsys.readouterr().err == ""
    assert SHADED not in (twelve_speakers / "none.svg").read_text(encoding="utf-8")


def test_speakers_by_a_table(twelve_speakers, capsys):
    for name in ("trials", "a.scores"):  # ids that don't tell
        path = twelve_speakers / name
        path.write_text(re.sub(r"s(\d\d)-(\w+)", r"u\2_\1", path.read_text(encoding="utf-8")), encoding="utf-8")
    assert main(["trials", "a.scores", "none.svg"]) == 0
    assert capsys.readouterr().err.startswith("plot-det: no intervals: trials:1: 'uenroll_00 u0_00' is a target, but ")
    ids = {word for line in (twelve_speakers / "trials").read_text(encoding="utf-8").splitlines()
           for word in line.split()[:2]}
    (twelve_speakers / "utt2spk").write_text("".join(f"{one} {one[-2:]}\n" for one in sorted(ids)), encoding="utf-8")
    assert main(["trials", "a.scores", "det.svg", "--utt2spk", "utt2spk", "--replicates", "30"]) == 0
    assert capsys.readouterr().err == NARROW
    assert SHADED in (twelve_speakers / "det.svg").read_text(encoding="utf-8")
    (twelve_speakers / "utt2spk").write_text("uenroll_00 00\n", encoding="utf-8")
    assert main(["trials", "a.scores", "new.svg", "--utt2spk", "utt2spk"]) == 1
    assert "'u0_00' has no speaker in utt2spk" in capsys.readouterr().err
    assert not (twelve_speakers / "new.svg").exists()


def test_too_few_draws(twelve_speakers, capsys):
    assert main(["trials", "a.scores", "det.svg", "--replicates", "5"]) == 2
    assert capsys.readouterr().err == (
        "plot-det: --replicates 5 is too few for an interval; want at least 20, or 0 for none\n")
