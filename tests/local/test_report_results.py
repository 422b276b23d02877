"""The results table and the DET picture."""

import json

import pytest
import report_results

RESULT = {"eer_percent": 6.25, "min_dcf": 0.4321, "dcf_p_target": 0.01, "dcf_c_miss": 1.0, "dcf_c_fa": 1.0,
          "num_target": 2, "num_nontarget": 2}


@pytest.fixture
def scored(tmp_path):
    """The four values of --scored for four trials."""
    pairs = [("a", "b", "target", 0.9), ("a", "c", "nontarget", 0.1),
             ("d", "b", "nontarget", 0.6), ("d", "c", "target", 0.5)]
    (tmp_path / "trials").write_text("".join(f"{enrol} {test} {label}\n" for enrol, test, label, _ in pairs))
    (tmp_path / "scores").write_text("".join(f"{enrol} {test} {score}\n" for enrol, test, _, score in pairs))
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    return ["mini", *(str(tmp_path / name) for name in ("trials", "scores", "result.json"))]


def test_what_a_result_was_measured_on(tmp_path, scored):
    result = RESULT | {"protocol": {"trials": "/data/eval/trials", "trials_sha256": "0123456789abcdef",
                                    "enrolment": "mean of embeddings", "model": "big", "model_sha256": "fedcba9876",
                                    "precision": "float32"}}
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert report_results.main(["--scored", *scored, str(tmp_path / "t.md"), str(tmp_path / "det.png")]) == 0
    assert (tmp_path / "t.md").read_text().splitlines()[-1] == (
        "- mini: trials (SHA-256 01234567), enrolment by mean of embeddings, model big (SHA-256 fedcba98, float32)")


def test_table_and_picture(tmp_path, scored):
    table, picture = tmp_path / "out" / "results.md", tmp_path / "out" / "det.png"
    twice = ["--scored", *scored, "--scored", *scored]
    assert report_results.main(["--seconds", "90", *twice, str(table), str(picture)]) == 0
    lines = table.read_text().splitlines()
    assert len({len(line) for line in lines[:4]}) == 1  # the columns line up
    assert [cell.strip() for cell in lines[2].split("|")] == ["", "mini", "6.25", "0.4321", "0.01, 1, 1", "2", "2", ""]
    assert lines[-1] == "1.5 minutes"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_rows_of_nontargets_by_condition(tmp_path, scored):
    cells = [{"values": ["same"], "eer_percent": 12.5, "min_dcf": 0.5, "num_target": 2, "num_nontarget": 1500},
             {"values": ["different"], "eer_percent": None, "min_dcf": None, "num_target": 2, "num_nontarget": 0}]
    broken_down = RESULT | {"breakdowns": [
        {"by": ["test_room"], "share_targets": False, "cells": cells},
        {"by": ["pair_session"], "share_targets": True, "cells": cells}]}
    (tmp_path / "breakdown.json").write_text(json.dumps(broken_down))
    table = tmp_path / "results.md"
    assert report_results.main(["--scored", *scored, "--broken-down", "mini", str(tmp_path / "breakdown.json"),
                                str(table), str(tmp_path / "det.png")]) == 0
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.read_text().splitlines()[3:]]
    assert rows == [["mini, nontargets of same session", "12.50", "0.5000", "0.01, 1, 1", "2", "1,500"],
                    ["mini, nontargets of different session", "-", "-", "", "2", "0"]]


@pytest.mark.parametrize("text, message", [
    ("{", "result.json: is no result: "),
    ("{}", "result.json: has no 'eer_percent'; wanted what score-trials --json writes for labelled trials"),
])
def test_results_refused(tmp_path, scored, capsys, text, message):
    (tmp_path / "result.json").write_text(text)
    assert report_results.main(["--scored", *scored, str(tmp_path / "table"), str(tmp_path / "picture")]) == 1
    assert message in capsys.readouterr().err
