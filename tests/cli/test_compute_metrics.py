"""compute-metrics as a user meets it."""

import io
import json

import pytest

from speakerkit.cli.compute_metrics import main

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
