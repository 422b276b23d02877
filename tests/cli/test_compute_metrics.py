"""compute-metrics as a user meets it."""

import io
import json

import pytest

from speakerkit.cli.compute_metrics import CONVENTIONS, main
from speakerkit.scoring import conventions

TRIALS = "".join(f"e t{number} {'target' if number in (2, 4, 5) else 'nontarget'}\n" for number in range(6))
# Scores 1..6 of n n t n t t: EER 1/3 at 4. At p 0.01 and costs 1, 1 the best threshold is 5: a miss of 1/3 and no
# false alarm cost 1/3 of rejecting all.
SCORES = "".join(f"e t{number} {number + 1}\n" for number in range(6))
METRICS = """num_target 3
num_nontarget 3
eer_percent 33.3333
eer_threshold 4.0000
min_dcf 0.3333
min_dcf_threshold 5.0000
dcf_p_target 0.01
dcf_c_miss 1
dcf_c_fa 1
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trials").write_text(TRIALS, encoding="utf-8")
    (tmp_path / "scores").write_text(SCORES, encoding="utf-8")
    return tmp_path


def test_metrics_on_stdout(folder, capsys):
    assert main(["trials", "scores", "--quiet"]) == 0
    assert capsys.readouterr() == (METRICS, "")


def test_json_has_all_digits(folder, capsys):
    assert main(["trials", "scores", "--quiet", "--json", "result.json", "--c-miss", "10", "--p-target", "0.5"]) == 0
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert result["eer_percent"] == pytest.approx(100 / 3, abs=1e-12)
    # Misses cost ten: threshold 3 misses none and accepts 1 of 3 nontargets.
    assert (result["min_dcf"], result["min_dcf_threshold"]) == (pytest.approx(1 / 3), 3)
    assert (result["dcf_p_target"], result["dcf_c_miss"]) == (0.5, 10)
    assert result["protocol"]["scores"] == "scores"


def test_any_order_of_the_scores(folder, capsys):
    (folder / "scores").write_text("".join(reversed(SCORES.splitlines(keepends=True))), encoding="utf-8")
    assert main(["trials", "scores", "--quiet"]) == 0
    assert capsys.readouterr().out == METRICS


def test_constant_scores(folder, capsys):
    (folder / "scores").write_text("".join(f"e t{number} 0.5\n" for number in range(6)), encoding="utf-8")
    assert main(["trials", "scores", "--quiet", "--json", "result.json"]) == 0
    assert "eer_percent 50.0000\neer_threshold inf\nmin_dcf 1.0000\nmin_dcf_threshold inf\n" in capsys.readouterr().out
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert (result["eer_threshold"], result["min_dcf_threshold"]) == (None, None)


def test_standard_input(folder, capsys, monkeypatch):
    for words, text in ((["-", "scores"], TRIALS), (["trials", "-"], SCORES)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert main([*words, "--quiet"]) == 0
        assert capsys.readouterr().out == METRICS
    assert main(["-", "-"]) == 2
    assert capsys.readouterr().err == "compute-metrics: only one of trials and scores can be standard input\n"


def test_label_first(folder, capsys):
    reordered = [line.split(" ") for line in TRIALS.splitlines()]
    (folder / "trials").write_text("".join(f"{label} {e} {t}\n" for e, t, label in reordered), encoding="utf-8")
    assert main(["trials", "scores", "--quiet", "--trials-format", "label-first"]) == 0
    assert capsys.readouterr().out == METRICS


@pytest.mark.parametrize("trials, scores, told", [
    ("e t\n", "e t 1\n", "trials: trials have no labels: EER needs both classes"),
    ("e t 1\n", "e t 1\n", "trials: no nontarget trials: EER needs both classes"),
    ("e t 0\n", "e t 1\n", "trials: no target trials: EER needs both classes"),
    ("e t 0\ne u 1\n", "e t 1\ne u nan\n", "scores:2: score is 'nan'; wanted a finite decimal number"),
    ("e t 0\ne u 1\n", "e t 1\n", "scores: 1 of 2 trials in trials have no score: 'e u'"),
    ("e t 0\ne u 1\n", "e t 1\ne u 1\ne v 1\n", "scores: 1 of 3 scores are of no trial there: 'e v' (line 3)"),
    ("e t 0\ne u 1\n", "e t 1\ne u 1\ne t 2\n", "scores:3: 'e t' has another score on an earlier line"),
])
def test_what_is_refused(folder, capsys, trials, scores, told):
    (folder / "trials").write_text(trials, encoding="utf-8")
    (folder / "scores").write_text(scores, encoding="utf-8")
    assert main(["trials", "scores", "--json", "result.json"]) == 1
    assert capsys.readouterr() == ("", f"compute-metrics: {told}\n")
    assert json.loads((folder / "result.json").read_text(encoding="utf-8"))["exit_code"] == 1


def test_as_installed(folder, run_command):
    result = run_command("compute-metrics", "trials", "scores", "--quiet", cwd=folder)
    assert (result.returncode, result.stdout, result.stderr) == (0, METRICS, "")


# --- one file, other toolkits' files and numbers ----------------------------------------------------------------------


def labelled_scores() -> str:
    labels = [line.split()[2] for line in TRIALS.splitlines()]
    return "".join(f"{line} {label}\n" for line, label in zip(SCORES.splitlines(), labels, strict=True))


@pytest.mark.parametrize("words", [["labelled"], ["--quiet", "labelled"], ["trials", "--quiet", "labelled"],
                                   ["-"], ["labelled", "--scores-format", "score-label"]])
def test_labels_in_the_score_file(folder, capsys, monkeypatch, words):
    (folder / "labelled").write_text(labelled_scores(), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(labelled_scores().encode())))
    assert main([*words, "--json", "result.json"]) == 0
    assert capsys.readouterr().out == METRICS
    protocol = json.loads((folder / "result.json").read_text(encoding="utf-8"))["protocol"]
    assert protocol["num_target"] == 3
    assert protocol["scores"] == ("standard input" if words == ["-"] else "labelled")


def test_conventions_are_those_that_exist():
    assert conventions.CONVENTIONS.keys() == set(CONVENTIONS)


@pytest.mark.parametrize("convention, printed", [
    # Scores 1..6 of n n t n t t.
    ("reference", "EER is 33.3333 at threshold 4.0000\n"  # 1/3 and 1/3 at 4
                  "minDCF is 0.3333 at threshold 4.0000 (p-target=0.01, c-miss=10.0, c-fa=1)\n"),  # up to 4 rejected
    ("wespeaker", "---- scores -----\nEER = 33.333\nminDCF (p_target:0.01 c_miss:1 c_fa:1) = 0.333\n"),
    ("3dspeaker", "Results of scores is:\nEER = 33.3333\nminDCF (p_target:0.01 c_miss:1 c_fa:1) = 0.3333\n"),
    ("espnet", "trg_mean: 4.666666666666667, trg_std: 1.247219128924647\n"
               "nontrg_mean: 1.247219128924647, nontrg_std: 1.247219128924647\n"
               "eer: 33.333333333333336, mindcf: 0.3333333333333333\n"),
    ("speechbrain", "EER(%)=33.333334\nminDCF=0.333333\n"),
    ("kaldi", "EER: 33.33%\nminDCF(p-target=0.01): 0.3333\nminDCF(p-target=0.001): 0.3333\n"),
])
def test_conventions_print_their_own_lines(folder, capsys, convention, printed):
    assert main(["trials", "scores", "--quiet", "--convention", convention, "--json", "result.json"]) == 0
    assert capsys.readouterr() == (printed, "")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert (result["convention"], result["printed"], result["num_target"]) == (convention, printed, 3)
    assert result["eer_percent"] == pytest.approx(100 / 3, abs=1e-5)
    assert result["protocol"]["p_target"] == (0.05 if convention == "espnet" else 0.01)


def test_file_order_decides_ties_where_it_does_for_them(folder, capsys):
    """Of two tied trials the first is rejected first: 1 of 2 targets missed, or none."""
    (folder / "trials").write_text("e a target\ne b nontarget\ne c target\ne d nontarget\n", encoding="utf-8")
    for scores, min_dcf in (("e d 0\ne a 1\ne b 1\ne c 2\n", "0.5000"), ("e d 0\ne b 1\ne a 1\ne c 2\n", "0.0000")):
        (folder / "scores").write_text(scores, encoding="utf-8")
        assert main(["trials", "scores", "--quiet", "--convention", "kaldi"]) == 0
        assert capsys.readouterr().out.splitlines()[1] == f"minDCF(p-target=0.01): {min_dcf}"
        assert main(["trials", "scores", "--quiet"]) == 0
        assert "min_dcf 0.5000\n" in capsys.readouterr().out


@pytest.mark.parametrize("words, code, told", [
    (["--convention", "espnet", "--p-target", "0.01"], 2,
     "--convention espnet: its script has its operating point built in; leave --p-target, --c-miss and --c-fa out\n"),
    (["--convention", "nist"], 2, "argument --convention: invalid choice: 'nist' (choose from "),
    (["--convention", "wespeaker"], 1, "scores: wespeaker: the lowest score already misses as much as it accepts, "
                                       "where the script ends in an IndexError and prints nothing\n"),
])
def test_conventions_refused(folder, capsys, words, code, told):
    (folder / "trials").write_text("e a target\ne b nontarget\n", encoding="utf-8")
    (folder / "scores").write_text("e a 0\ne b 1\n", encoding="utf-8")
    assert main(["trials", "scores", *words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"compute-metrics: {told}")


def test_a_point_of_ones_own(folder, capsys):
    assert main(["trials", "scores", "--quiet", "--convention", "kaldi", "--c-miss", "10"]) == 0
    assert capsys.readouterr().out == "EER: 33.33%\nminDCF(p-target=0.01): 0.3333\n"
