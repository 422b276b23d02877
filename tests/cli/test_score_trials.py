"""score-trials as a user meets it: what it prints where, what it refuses, and with which exit code."""

import json
import os
import subprocess

import numpy as np
import pytest

from speakerkit.cli.score_trials import main
from speakerkit.io.ark import ArkWriter

TRIALS = "e1 t1 target\ne1 t2 nontarget\ne2 t1 nontarget\ne2 t2 target\n"
SCORES = "e1 t1 1.0\ne1 t2 0.0\ne2 t1 0.600000024\ne2 t2 0.800000012\n"  # the nine digits of float32 0.6 and 0.8
METRICS = """num_target 2
num_nontarget 2
eer_percent 0.0000
eer_threshold 0.8000
min_dcf 0.0000
min_dcf_threshold 0.8000
dcf_p_target 0.01
dcf_c_miss 1
dcf_c_fa 1
"""


def write_ark(path, **vectors):
    with ArkWriter(path) as writer:
        for key, vector in vectors.items():
            writer.write(key, np.array(vector, dtype=np.float32))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with trials and embeddings."""
    monkeypatch.chdir(tmp_path)
    write_ark(tmp_path / "emb.ark", e1=[1, 0], e2=[3, 4], t1=[2, 0], t2=[0, 5])
    (tmp_path / "trials").write_text(TRIALS, encoding="utf-8")
    return tmp_path


def test_scores_on_stdout_metrics_on_stderr(folder, capsys):
    assert main(["trials", "emb.ark"]) == 0
    out, err = capsys.readouterr()
    assert out == SCORES
    assert err == "score-trials: the EER rests on 0 errors of the rarer kind; below 30 it is likely off by more than " \
                  "30 %\n" + METRICS


def test_quiet_keeps_the_results(folder, capsys):
    assert main(["trials", "emb.ark", "--quiet"]) == 0
    assert capsys.readouterr() == (SCORES, METRICS)


def test_trials_without_labels(folder, capsys):
    (folder / "trials").write_text("e1 t1\ne2 t2\n", encoding="utf-8")
    assert main(["trials", "emb.ark"]) == 0
    out, err = capsys.readouterr()
    assert out == "e1 t1 1.0\ne2 t2 0.800000012\n"
    assert err == "score-trials: trials: trials have no labels, so there are no metrics\n"


def test_label_first_and_operating_point(folder, capsys):
    (folder / "trials").write_text("1 e1 t1\n0 e1 t2\n", encoding="utf-8")
    assert main(["trials", "emb.ark", "--trials-format", "label-first", "--p-target", "0.05", "--c-miss", "10",
                 "--c-fa", "2", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out == "e1 t1 1.0\ne1 t2 0.0\n"
    assert err.endswith("dcf_p_target 0.05\ndcf_c_miss 10\ndcf_c_fa 2\n")


def test_output_file_json_and_rerun(folder, capsys):
    command = ["trials", "emb.ark", "--output", "new/scores", "--json", "result.json"]
    assert main(command) == 0
    assert capsys.readouterr().out == ""
    assert (folder / "new" / "scores").read_text(encoding="utf-8") == SCORES
    assert sorted(path.name for path in (folder / "new").iterdir()) == ["scores", "scores.manifest.json"]
    first = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert first["command"] == "score-trials"
    assert (first["status"], first["exit_code"], first["num_trials"], first["eer_percent"]) == ("ok", 0, 4, 0.0)
    assert first["protocol"]["enrolment"] == "one embedding"

    before = os.stat(folder / "new" / "scores")
    assert main(command) == 0  # prints its metrics again
    _, err = capsys.readouterr()
    assert err == "score-trials: new/scores: nothing to do, it is up to date\n" + METRICS
    assert os.stat(folder / "new" / "scores").st_mtime_ns == before.st_mtime_ns
    again = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert {**again, "seconds": 0} == {**first, "seconds": 0}


def test_another_output_is_not_replaced_unasked(folder, capsys):
    assert main(["trials", "emb.ark", "--output", "scores", "--quiet"]) == 0
    assert main(["trials", "emb.ark", "--output", "scores", "--p-target", "0.05", "--quiet"]) == 2
    assert capsys.readouterr().err.endswith(
        "score-trials: scores: exists already: made with p_target 0.01, now 0.05; give --overwrite to replace it\n")
    write_ark(folder / "emb.ark", e1=[0, 1], e2=[3, 4], t1=[2, 0], t2=[0, 5])
    assert main(["trials", "emb.ark", "--output", "scores", "--quiet"]) == 2
    assert "emb.ark has changed since; give --overwrite" in capsys.readouterr().err
    assert (folder / "scores").read_text(encoding="utf-8") == SCORES
    assert main(["trials", "emb.ark", "--output", "scores", "--overwrite", "--quiet"]) == 0
    assert (folder / "scores").read_text(encoding="utf-8").startswith("e1 t1 0.0\n")


def test_enrol_map_and_enrol_embeddings(folder, capsys):
    write_ark(folder / "enrol.ark", a=[1, 0], b=[0, 1])
    (folder / "map").write_text("both a b\n", encoding="utf-8")
    (folder / "trials").write_text("both t1\n", encoding="utf-8")
    assert main(["trials", "emb.ark", "--enrol-embeddings", "enrol.ark", "--enrol-map", "map", "--quiet"]) == 0
    assert capsys.readouterr().out == "both t1 0.707106769\n"  # float32 nearest the root of a half


def test_missing_ids_are_told_before_the_first_score(folder, capsys):
    (folder / "trials").write_text("e1 t1 1\n" + "".join(f"e1 x{number} 0\n" for number in range(12)), encoding="utf-8")
    assert main(["trials", "emb.ark", "--json", "result.json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    told = [f"score-trials: trials:{number + 2}: 'x{number}' has no embedding in emb.ark" for number in range(10)]
    assert err.splitlines() == [*told, "score-trials: ... and 2 more"]
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert (result["status"], result["exit_code"]) == ("bad-data", 1)


@pytest.mark.parametrize("trials, told", [
    (None, "trials: no such file"),
    ("", "trials: is empty; wanted '<enrol-id> <test-id> [target|nontarget]' a line"),
    ("e1 t1 target\ne1\n", "trials:2: 1 fields; wanted '<enrol-id> <test-id> [target|nontarget]'"),
    ("e1 t1 target\ne1 t2 0\n", "trials:2: label is '0'; want target/nontarget or 1/0, one vocabulary a file, and the "
                                "lines before have nontarget/target"),
    ("1 e1 t1\n", "trials:1: first field '1' is a label; wanted '<enrol-id> <test-id> <label>', or give "
                  "--trials-format label-first"),
    ("e1 t1 target\ne1 t1 nontarget\n", "trials:2: 'e1 t1' is nontarget here and target on line 1"),
])
def test_faulty_trials(folder, capsys, trials, told):
    (folder / "trials").unlink()
    if trials is not None:
        (folder / "trials").write_text(trials, encoding="utf-8")
    assert main(["trials", "emb.ark"]) == 1
    assert capsys.readouterr() == ("", f"score-trials: {told}\n")


@pytest.mark.parametrize("vectors, told", [
    ({"e": [1, 0], "t": [1, 0, 0]}, "emb.ark: 't' has 3 values, 'e' has 2: embeddings of two models?"),
    ({"e": [1, 0], "t": [0, 0]}, "emb.ark: zero-embedding: 't' is zero in every dimension"),
])
def test_faulty_embeddings(folder, capsys, vectors, told):
    write_ark(folder / "emb.ark", **vectors)
    (folder / "trials").write_text("e t\n", encoding="utf-8")
    assert main(["trials", "emb.ark"]) == 1
    assert capsys.readouterr() == ("", f"score-trials: {told}\n")


def test_embeddings_that_are_not_there(folder, capsys):
    assert main(["trials", "none.ark", "--output", "scores"]) == 1
    assert capsys.readouterr().err == "score-trials: none.ark: no such file\n"
    assert not (folder / "scores").exists()


@pytest.mark.parametrize("output", ["trials", "emb.ark", "./trials"])
def test_no_output_over_an_input(folder, capsys, output):
    assert main(["trials", "emb.ark", "--output", output, "--overwrite"]) == 2
    assert capsys.readouterr().err == f"score-trials: --output {output} is one of the inputs\n"
    assert (folder / "trials").read_text(encoding="utf-8") == TRIALS


def test_unusable_output_place(folder, capsys):
    assert main(["trials", "emb.ark", "--output", "trials/scores"]) == 75
    assert capsys.readouterr().err.startswith("score-trials: trials/scores: can't be written")


@pytest.mark.parametrize("options", [["--p-target", "nan"], ["--p-target", "1"], ["--c-fa", "0"],
                                     ["--trials-form", "label-first"], ["--trials-format", "x"]])
def test_wrong_command_lines(folder, capsys, options):
    assert main(["trials", "emb.ark", *options]) == 2
    assert "hint: score-trials --help" in capsys.readouterr().err


def test_standard_input_as_installed(folder, run_command):
    result = run_command("score-trials", "-", "emb.ark", "--quiet", "--json", "r.json", input=TRIALS, cwd=folder)
    assert (result.returncode, result.stdout, result.stderr) == (0, SCORES, METRICS)
    assert json.loads((folder / "r.json").read_text(encoding="utf-8"))["protocol"]["trials"] == "standard input"


def test_a_closed_pipe_ends_it_quietly(folder, run_command):
    """As `score-trials ... | head` does; the list is longer than a pipe holds."""
    long_list = folder / "long"
    long_list.write_text("".join(f"e{1 + number % 2} t{1 + number % 3 % 2}\n" for number in range(400_000)),
                         encoding="utf-8")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = run_command("score-trials", "long", "emb.ark", "--quiet", cwd=folder, capture_output=False,
                             stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (0, "score-trials: warning: long: trials that are there already, with "
                                                     "the same label, and count again: 399,996\n")
