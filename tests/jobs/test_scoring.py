"""The scoring job: what goes into a result, and what a result says of itself."""

import hashlib
import io
import json
import logging

import numpy as np
import pytest

from speakerkit.errors import ConfigError, DataError, RecordingError
from speakerkit.io import files
from speakerkit.io.ark import ArkWriter
from speakerkit.io.trials import read_trials
from speakerkit.jobs import scoring
from speakerkit.jobs.scoring import OperatingPoint, ScoringOptions

# Embeddings in a plane, by their angle in degrees: the cosine of a trial is the cosine of the difference.
ANGLES = {"e0": 0, "e90": 90, "t10": 10, "t60": 60, "t80": 80}
TRIALS = "e0 t10 target\ne0 t60 nontarget\ne90 t80 target\ne90 t10 nontarget\ne0 t80 nontarget\n"
COSINES = np.cos(np.deg2rad([10, 60, 10, 80, 80]))


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path):
    with ArkWriter(tmp_path / "emb.ark", tmp_path / "emb.scp") as writer:
        for key, degrees in ANGLES.items():
            angle = np.deg2rad(degrees)
            writer.write(key, np.array([2 * np.cos(angle), 2 * np.sin(angle)], dtype=np.float32))
    files.write_manifest(tmp_path / "emb.ark", files.Manifest("extract-embeddings", {}, {}, "0"),
                         {"model": "tiny", "model_sha256": "ab" * 32, "precision": "float32"}, [tmp_path / "emb.scp"])
    (tmp_path / "trials").write_text(TRIALS, encoding="utf-8")
    return tmp_path


def run(folder, options=None, **changed):
    """Scores of the list in `folder` as (ids, numbers), and the report."""
    options, report, stream = options or ScoringOptions(**changed), {}, io.BytesIO()
    scoring.score_trials(str(folder / "trials"), str(folder / "emb.ark"), options, report, stream)
    rows = [line.split(" ") for line in stream.getvalue().decode("utf-8").splitlines()]
    return [row[:2] for row in rows], np.array([float(row[2]) for row in rows]), report


def test_scores_and_metrics(folder):
    pairs, scores, report = run(folder)
    assert pairs == [line.split(" ")[:2] for line in TRIALS.splitlines()]
    np.testing.assert_allclose(scores, COSINES, atol=1e-7)  # float32
    assert {name: report[name] for name in ("num_trials", "num_target", "num_nontarget", "num_repeated")} == {
        "num_trials": 5, "num_target": 2, "num_nontarget": 3, "num_repeated": 0}
    assert report["eer_percent"] == 0
    assert report["eer_threshold"] == pytest.approx(COSINES[0], abs=1e-7)


def test_every_result_names_its_protocol(folder):
    _, _, report = run(folder, point=OperatingPoint(0.05, 10, 1))
    assert report["protocol"] == {
        "trials": str(folder / "trials"), "trials_sha256": sha256(folder / "trials"), "num_trials": 5, "num_target": 2,
        "num_nontarget": 3, "enrolment": "one embedding", "p_target": 0.05, "c_miss": 10, "c_fa": 1,
        "embeddings": str(folder / "emb.ark"), "enrol_embeddings": None, "enrol_map": None,
        "mean_of": None, "model": "tiny", "model_sha256": "ab" * 32, "precision": "float32"}


def test_enrolments_as_means(folder):
    (folder / "map").write_text("both e0 e90\n", encoding="utf-8")
    (folder / "trials").write_text("both t10\nboth t60\n", encoding="utf-8")
    _, scores, report = run(folder, enrol_map=str(folder / "map"))
    np.testing.assert_allclose(scores, np.cos(np.deg2rad([35, 15])), atol=1e-7)  # the mean of 0 and 90 degrees is at 45
    assert report["protocol"]["enrolment"] == "mean of embeddings"
    assert report["protocol"]["num_target"] is None
    assert "eer_percent" not in report


def test_the_mean_of_other_embeddings_is_taken_away(folder):
    with ArkWriter(folder / "train.ark") as writer:  # their mean is (1, 1)
        writer.write("a", np.array([2, 0], dtype=np.float32))
        writer.write("b", np.array([0, 2], dtype=np.float32))
    _, scores, report = run(folder, mean_of=str(folder / "train.ark"))
    at = {key: 2 * np.array([np.cos(np.deg2rad(d)), np.sin(np.deg2rad(d))]) - 1 for key, d in ANGLES.items()}
    expected = [at[a] @ at[b] / np.linalg.norm(at[a]) / np.linalg.norm(at[b])
                for a, b, _ in map(str.split, TRIALS.splitlines())]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert report["protocol"]["mean_of"] == str(folder / "train.ark")
    with ArkWriter(folder / "train.ark") as writer:
        writer.write("a", np.array([2, 0], dtype=np.float32))  # e0 itself
    with pytest.raises(RecordingError, match="'e0' is the mean of"):
        run(folder, mean_of=str(folder / "train.ark"))
    with ArkWriter(folder / "train.ark") as writer:
        writer.write("a", np.ones(3, dtype=np.float32))
    with pytest.raises(DataError, match="has 3 values an embedding.*embeddings of two models"):
        run(folder, mean_of=str(folder / "train.ark"))


def test_enrolments_that_lie_elsewhere(folder):
    with ArkWriter(folder / "enrol.ark") as writer:
        writer.write("e0", np.array([0, 1], dtype=np.float32))  # 90 degrees here
        writer.write("e90", np.array([1, 0], dtype=np.float32))
    _, scores, _ = run(folder, enrol_embeddings=str(folder / "enrol.ark"))
    np.testing.assert_allclose(scores, np.cos(np.deg2rad([80, 30, 80, 10, 10])), atol=1e-7)


def test_what_a_user_should_know_is_said(folder, caplog):
    (folder / "trials").write_text("e0 t10 1\ne0 e0 1\ne0 t10 1\ne0 t60 0\n", encoding="utf-8")
    with caplog.at_level(logging.INFO, "speakerkit"):
        _, _, report = run(folder)
    assert (report["num_repeated"], report["num_same_recording"]) == (1, 1)
    said = [record.getMessage().replace(f"{folder}/", "") for record in caplog.records]
    assert said == [
        "trials: trials whose test recording is in the enrolment: 1",
        "trials: trials that are there already, with the same label, and count again: 1",
        "the EER rests on 0 errors of the rarer kind; below 30 it is likely off by more than 30 %"]


def test_a_test_recording_inside_a_mean(folder, caplog):
    (folder / "map").write_text("both e0 t10\ne90 e90\n", encoding="utf-8")
    (folder / "trials").write_text("both t10\nboth t60\ne90 t10\nboth t10\n", encoding="utf-8")
    _, _, report = run(folder, enrol_map=str(folder / "map"))
    assert report["num_same_recording"] == 2


@pytest.mark.parametrize("labels, said", [
    (("", "", ""), "trials have no labels"), ((" 1",) * 3, "no nontarget trials"), ((" 0",) * 3, "no target trials")])
def test_scores_without_metrics(folder, caplog, labels, said):
    pairs = ("e0 t10", "e0 t60", "e90 t80")
    (folder / "trials").write_text("".join(f"{pair}{label}\n" for pair, label in zip(pairs, labels, strict=True)))
    with caplog.at_level(logging.INFO, "speakerkit"):
        _, scores, report = run(folder)
    assert len(scores) == 3
    assert "eer_percent" not in report
    assert f"{said}, so there are no metrics" in caplog.text
    with pytest.raises(DataError, match=f"{said}: EER needs both classes"):
        scoring.measure(read_trials(folder / "trials"), scores, OperatingPoint())


def test_nothing_is_written_before_all_ids_are_known(folder):
    (folder / "trials").write_text(TRIALS + "e0 t99 target\n", encoding="utf-8")
    stream = io.BytesIO()
    with pytest.raises(DataError, match="trials:6: 't99' has no embedding"):
        scoring.score_trials(str(folder / "trials"), str(folder / "emb.ark"), ScoringOptions(), {}, stream)
    assert stream.getvalue() == b""


def test_metrics_from_a_score_file_are_those_of_its_writing(folder):
    written, read = {}, {}
    scoring.score_trials_to_file(str(folder / "trials"), str(folder / "emb.scp"), ScoringOptions(), written,
                                 str(folder / "scores"), overwrite=False)
    scoring.measure_score_file(str(folder / "trials"), str(folder / "scores"), ScoringOptions(), read)
    for name in ("num_target", "num_nontarget", "eer_percent", "min_dcf", "num_trials"):
        assert read[name] == written[name]
    assert read["eer_threshold"] == pytest.approx(written["eer_threshold"], rel=1e-8)
    assert read["protocol"]["scores_sha256"] == sha256(folder / "scores")
    for name in ("model", "model_sha256", "precision", "enrolment", "trials_sha256"):
        assert read["protocol"][name] == written["protocol"][name]
    assert "emb.scp" in json.dumps(written["protocol"])

    (folder / "scores").write_text((folder / "scores").read_text().replace("0.98", "0.97"), encoding="utf-8")
    scoring.measure_score_file(str(folder / "trials"), str(folder / "scores"), ScoringOptions(), read)
    assert read["protocol"]["model"] is None  # the manifest speaks of other bytes


def test_both_from_standard_input():
    with pytest.raises(ConfigError, match="only one of trials and scores"):
        scoring.measure_score_file("-", "-", ScoringOptions(), {})


def test_infinite_thresholds_are_null_and_inf(folder):
    trials = read_trials(folder / "trials")
    metrics = scoring.measure(trials, np.full(5, 0.25), OperatingPoint())
    assert (metrics["eer_percent"], metrics["eer_threshold"], metrics["min_dcf_threshold"]) == (50, None, None)
    assert scoring.format_metrics(metrics) == (
        "num_target 2\nnum_nontarget 3\neer_percent 50.0000\neer_threshold inf\nmin_dcf 1.0000\nmin_dcf_threshold inf\n"
        "dcf_p_target 0.01\ndcf_c_miss 1\ndcf_c_fa 1\n")
