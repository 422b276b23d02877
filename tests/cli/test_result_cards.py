"""Result cards as a user meets them: compute-metrics, score-trials and eval-eer with --card."""

import hashlib
import json
import math

import numpy as np
import pytest

from speakerkit.cli import calibrate_scores, compute_metrics, score_trials
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.io import files
from speakerkit.io.ark import ArkWriter
from speakerkit.models.model_info import METADATA_KEY, ModelInfo, facts_as_json
from speakerkit.scoring.bootstrap import count_by_speaker
from speakerkit.scoring.calibration import compute_actual_dcf, compute_cllr
from speakerkit.scoring.intervals import confidence_intervals
from speakerkit.scoring.metrics import compute_eer, compute_min_dcf

NUM_SPEAKERS, NUM_TESTS = 12, 4
POINTS = [(0.01, 1, 1), (0.05, 1, 1), (0.001, 1, 1), (0.01, 10, 1)]


def embeddings(seed=1):
    """id -> (8,) of speakers who can nearly be told apart; enrolments and tests."""
    generator = np.random.default_rng(seed)
    speakers = generator.normal(size=(NUM_SPEAKERS, 8))
    found = {f"s{n:02d}-enroll": speakers[n] + 0.8 * generator.normal(size=8) for n in range(NUM_SPEAKERS)}
    return found | {f"s{n:02d}-{k}": speakers[n] + 1.2 * generator.normal(size=8)
                    for n in range(NUM_SPEAKERS) for k in range(NUM_TESTS)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder: trials, emb.ark, scores."""
    monkeypatch.chdir(tmp_path)
    found = embeddings()
    with ArkWriter("emb.ark") as writer:
        for key, vector in found.items():
            writer.write(key, vector.astype(np.float32))
    enrol, test = ([key for key in found if key.endswith("-enroll") == is_enrol] for is_enrol in (True, False))
    (tmp_path / "trials").write_text("".join(
        f"{e} {t} {'target' if e[:3] == t[:3] else 'nontarget'}\n" for e in enrol for t in test), encoding="utf-8")
    assert score_trials.main(["trials", "emb.ark", "--output", "scores", "--quiet"]) == 0
    return tmp_path


@pytest.fixture
def scored(folder):
    """Scores, labels and both sides' speakers."""
    rows = [line.split() for line in (folder / "scores").read_text().splitlines()]
    enrol, test = (np.array([int(row[side][1:3]) for row in rows]) for side in (0, 1))
    return np.array([float(row[2]) for row in rows]), enrol == test, enrol, test


def read_card(prefix):
    return json.loads(open(f"{prefix}.json", encoding="utf-8").read()), open(f"{prefix}.md", encoding="utf-8").read()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_model(path, **facts):
    """A model file's metadata; its weights are not looked at here."""
    import safetensors.numpy

    info = ModelInfo("tiny", ModelConfig(), FbankConfig(), **facts)
    path.write_bytes(safetensors.numpy.save({"w": np.zeros(1, np.float32)}, {METADATA_KEY: facts_as_json(info)}))


def test_a_card_says_what_was_measured(folder, scored, capsys):
    assert compute_metrics.main(["trials", "scores", "--card", "new/card", "--replicates", "50", "--protocol-name",
                                 "12 talkers"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("num_target 48\nnum_nontarget 528\n")
    assert "compute-metrics: trials: 12 speakers, by the ids' text before the first '-'\n" in err
    assert err.endswith("compute-metrics: new/card.json, new/card.md: the result's card\n")
    card, page = read_card("new/card")
    assert {name: card["protocol"][name] for name in (
        "name", "trials", "trials_sha256", "num_target", "num_nontarget", "num_enrolments", "num_tests", "enrolment",
        "scores", "scores_sha256")} == {
            "name": "12 talkers", "trials": "trials", "trials_sha256": sha256(folder / "trials"), "num_target": 48,
            "num_nontarget": 528, "num_enrolments": 12, "num_tests": 48, "enrolment": "one embedding",
            "scores": "scores", "scores_sha256": sha256(folder / "scores")}
    scores, is_target, *_ = scored
    eer, threshold = compute_eer(scores[is_target], scores[~is_target])
    assert (card["eer_percent"], card["eer_threshold"]) == (100 * eer, threshold)
    assert [(row["p_target"], row["c_miss"], row["c_fa"]) for row in card["dcf"]] == POINTS
    for row, point in zip(card["dcf"], POINTS, strict=True):
        min_dcf, threshold = compute_min_dcf(scores[is_target], scores[~is_target], *point)
        assert (row["min_dcf"], row["min_dcf_threshold"]) == (min_dcf, threshold if math.isfinite(threshold) else None)
        assert row["actual_dcf"] is None
    assert card["cllr"] is card["calibration"] is None
    assert 0 < card["min_cllr"] < 1
    for text in ("# Scores on 12 talkers", "| EER % | ", "| minDCF(0.01, 10, 1) | ", "48 target and 528 nontarget",
                 f"SHA-256 of the trials: {sha256(folder / 'trials')}", "enrolment: one embedding",
                 "12 speakers, 12 with target trials, by the ids' text before the first '-'", "50 draws, seed 1",
                 "only 12 speakers have target trials: it is likely too narrow", "training data: not known"):
        assert text in page


def test_its_intervals_are_those_of_the_library(folder, scored):
    assert compute_metrics.main(["trials", "scores", "--card", "card", "--replicates", "50", "--seed", "7",
                                 "--p-target", "0.2", "--quiet"]) == 0
    card, _ = read_card("card")
    points = [*POINTS, (0.2, 1, 1)]  # its own operating point joins the four
    found = confidence_intervals(count_by_speaker(*scored), [None, *points], 50, np.random.default_rng(7))
    assert (card["eer_percent_low"], card["eer_percent_high"]) == (100 * found[0].low, 100 * found[0].high)
    assert [(row["min_dcf_low"], row["min_dcf_high"], row["min_dcf_doubt"]) for row in card["dcf"]] == [
        (one.low, one.high, one.doubt) for one in found[1:]]


def test_rerun_and_change(folder, capsys):
    command = ["trials", "scores", "--card", "card", "--replicates", "20"]
    assert compute_metrics.main(command) == 0
    before = (folder / "card.json").stat().st_mtime_ns, (folder / "card.json").read_bytes()
    capsys.readouterr()
    assert compute_metrics.main(command) == 0
    assert "card.json: nothing to do, the card is up to date" in capsys.readouterr().err
    assert ((folder / "card.json").stat().st_mtime_ns, (folder / "card.json").read_bytes()) == before
    assert compute_metrics.main([*command, "--seed", "2"]) == 2
    assert capsys.readouterr().err.endswith("compute-metrics: card.json: exists already: made with seed 1, now 2; give "
                                            "--overwrite to replace it\n")
    assert (folder / "card.json").read_bytes() == before[1]
    assert compute_metrics.main([*command, "--seed", "2", "--overwrite"]) == 0
    changed = (folder / "card.json").read_bytes()
    assert changed != before[1]
    assert compute_metrics.main([*command, "--overwrite"]) == 0
    assert (folder / "card.json").read_bytes() == before[1]  # same seed, same bytes


def test_calibrated_scores(folder, scored):
    assert calibrate_scores.main(["trials", "scores", "--output", "calibration.json"]) == 0
    assert compute_metrics.main(["trials", "scores", "--card", "card", "--replicates", "0", "--calibration",
                                 "calibration.json", "--quiet"]) == 0
    card, page = read_card("card")
    fit = json.loads((folder / "calibration.json").read_text())
    scores, is_target, *_ = scored
    llr = fit["scale"] * scores + fit["offset"]
    assert card["cllr"] == pytest.approx(compute_cllr(llr, is_target))
    assert card["min_cllr"] <= card["cllr"] < 1
    for row, (p_target, c_miss, c_fa) in zip(card["dcf"], POINTS, strict=True):
        bayes = math.log(c_fa * (1 - p_target) / (c_miss * p_target))
        assert row["actual_dcf"] == pytest.approx(compute_actual_dcf(llr, is_target, bayes, p_target, c_miss, c_fa))
        assert row["actual_dcf"] >= row["min_dcf"] - 1e-12
    assert card["bootstrap"] is None and card["speakers"] is None
    assert "no confidence intervals: not asked for" in page
    assert "actual DCF at: the Bayes threshold of scores calibrated by calibration.json" in page


def test_a_stated_threshold(folder, scored):
    assert compute_metrics.main(["trials", "scores", "--card", "card", "--replicates", "0", "--threshold", "0.5",
                                 "--quiet"]) == 0
    card, _ = read_card("card")
    for row, point in zip(card["dcf"], POINTS, strict=True):
        assert row["actual_dcf"] == pytest.approx(compute_actual_dcf(*scored[:2], 0.5, *point))
        assert row["actual_dcf_threshold"] == 0.5
    assert card["actual_dcf_threshold_source"] == "stated"


def test_what_a_model_adds(folder, capsys):
    write_model(folder / "m.safetensors", training_data="85 speakers", domain="read speech", threshold=0.25,
                threshold_trials="its own trials")
    command = ["trials", "emb.ark", "--output", "scores", "--card", "card", "--replicates", "0", "--quiet"]
    assert score_trials.main([*command, "--model", "m.safetensors"]) == 0
    card, page = read_card("card")
    assert card["model"] == {"name": "tiny", "sha256": sha256(folder / "m.safetensors"), "precision": None,
                             "training_data": "85 speakers", "domain": "read speech"}
    assert {row["actual_dcf_threshold"] for row in card["dcf"]} == {0.25}
    assert card["actual_dcf_threshold_source"] == "model tiny: its own trials"
    assert "# tiny on trials" in page and "- training data: 85 speakers" in page
    write_model(folder / "m.safetensors", calibration={"scale": 10.0, "offset": -3.0}, threshold=0.25)
    assert score_trials.main([*command, "--overwrite", "--model", "m.safetensors"]) == 0
    card, _ = read_card("card")
    assert card["calibration"] == {"scale": 10.0, "offset": -3.0, "source": "model tiny"}
    assert card["dcf"][0]["actual_dcf_threshold"] == pytest.approx((math.log(99) + 3) / 10)


def test_a_model_that_is_not_that_of_the_scores(folder, capsys):
    write_model(folder / "m.safetensors")
    files.write_manifest("emb.ark", files.Manifest("extract-embeddings", {}, {}, "0"),
                         {"model": "other", "model_sha256": "ab" * 32, "precision": "float32"})
    command = ["trials", "emb.ark", "--output", "new", "--quiet", "--card", "card", "--replicates", "0"]
    assert score_trials.main([*command, "--model", "m.safetensors"]) == 1
    assert capsys.readouterr().err.endswith(
        f"score-trials: m.safetensors: is model tiny ({sha256(folder / 'm.safetensors')[:8]}), but the scores are of "
        "other (abababab)\n")
    assert not (folder / "card.json").exists()
    assert score_trials.main(command) == 0
    assert read_card("card")[0]["model"]["name"] == "other"


def test_what_was_left_out(folder):
    (folder / "emb.ark.bad.tsv").write_text("id\tpath\treason\tdetail\nx\tx.wav\tsilent\t\ny\ty.wav\ttoo-short\t0.1 s\n"
                                            "z\tz.wav\tsilent\t\n", encoding="utf-8")
    assert score_trials.main(["trials", "emb.ark", "--output", "scores", "--card", "card", "--replicates", "0",
                              "--quiet"]) == 0
    card, page = read_card("card")
    assert card["excluded"] == {"num_trials": 0, "num_recordings": 3, "reasons": {"silent": 2, "too-short": 1},
                                "bad_lists": ["emb.ark.bad.tsv"]}
    assert "- left out: 0 trials, 3 recordings (2 silent, 1 too-short)" in page
    assert compute_metrics.main(["trials", "scores", "--card", "other", "--replicates", "0", "--quiet"]) == 0
    assert read_card("other")[0]["excluded"] == card["excluded"]  # by the scores' manifest


def test_too_few_speakers_for_an_interval(folder, capsys):
    few = [line for line in (folder / "trials").read_text().splitlines(True) if line[1:3] < "09" and line[12:14] < "09"]
    few = [line for line in few if line.split()[1][1:3] < "09"]
    (folder / "few").write_text("".join(few), encoding="utf-8")
    assert score_trials.main(["few", "emb.ark", "--output", "few.scores", "--card", "card", "--quiet"]) == 0
    assert "warning: few: no confidence intervals: 9 speakers have target trials; want at least 10" in (
        capsys.readouterr().err)
    card, page = read_card("card")
    assert card["eer_percent_low"] is None
    assert "- no confidence intervals: 9 speakers have target trials; want at least 10." in page


def test_ids_without_speakers(folder, capsys):
    for name in ("trials", "scores"):
        (folder / name).write_text((folder / name).read_text().replace("-enroll", "").replace("s", "", 1))
    assert compute_metrics.main(["trials", "scores", "--card", "card", "--quiet"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("compute-metrics: trials:1: '00 s00-0' is a target, but its speakers are '00' and 's00'")
    assert err.endswith("want ids that begin with their speaker, or --utt2spk\n")
    assert not (folder / "card.json").exists() and not (folder / "card.md").exists()
    ids = {name for line in (folder / "trials").read_text().splitlines() for name in line.split()[:2]}
    (folder / "utt2spk").write_text("".join(f"{name} {name.replace('s', '')[:2]}\n" for name in sorted(ids)))
    assert compute_metrics.main(["trials", "scores", "--card", "card", "--quiet", "--utt2spk", "utt2spk",
                                 "--replicates", "20"]) == 0
    assert read_card("card")[0]["speakers"] == {"num_speakers": 12, "num_with_targets": 12, "source": "utt2spk"}


@pytest.mark.parametrize("options, code, told", [
    (["--protocol-name", "x"], 2, "--protocol-name is of a card; give --card PREFIX too"),
    (["--threshold", "0.5"], 2, "--threshold is of a card; give --card PREFIX too"),
    (["--card", "c", "--replicates", "19"], 2, "--replicates 19 is too few for an interval; want at least 20, or 0 for "
                                               "none"),
    (["--card", "c", "--calibration", "none.json"], 1, "none.json: no such file"),
    (["--card", "c", "--calibration", "trials"], 1, "trials: is no calibration: "),
    (["--card", "c", "--calibration", "bad.json"], 1, "bad.json: calibration: scale is -1; want a number above 0"),
    (["--card", "c", "--model", "none"], 1, "none: no such model"),
    (["--card", "c", "--utt2spk", "none"], 1, "none: no such file"),
    (["--card", "c", "--convention", "kaldi"], 2, "--convention prints what another toolkit would; a card is of our "
                                                  "own metrics"),
    (["--card", ""], 2, "--card '' names no file; want a prefix such as exp/card"),
    (["--card", "new/"], 2, "--card 'new/' names no file; want a prefix such as exp/card"),
    (["--card", "trials/c"], 75, "trials/c.json: can't be written"),
])
def test_refusals(folder, capsys, options, code, told):
    (folder / "bad.json").write_text('{"scale": -1, "offset": 0}', encoding="utf-8")
    assert compute_metrics.main(["trials", "scores", "--quiet", *options]) == code
    assert capsys.readouterr().err.startswith(f"compute-metrics: {told}")
    assert not (folder / "c.json").exists() and not (folder / "c.md").exists()


def test_a_card_never_lies_over_an_input(folder, capsys):
    (folder / "scores").rename(folder / "scores.md")
    assert compute_metrics.main(["trials", "scores.md", "--card", "scores", "--overwrite"]) == 2
    assert capsys.readouterr().err == "compute-metrics: --card scores would write over scores.md\n"


@pytest.mark.parametrize("command, told", [
    (["trials", "emb.ark"], "--card names the file of the scores; give --output FILE"),
    (["-", "emb.ark", "--output", "s"], "--card names the file of the trials; it can't be standard input"),
])
def test_a_card_of_scores_without_a_file(folder, capsys, command, told):
    assert score_trials.main([*command, "--card", "c"]) == 2
    assert capsys.readouterr().err == f"score-trials: {told}\n"


def test_trials_without_labels(folder, capsys):
    (folder / "bare").write_text("s00-enroll s00-0\n", encoding="utf-8")
    assert score_trials.main(["bare", "emb.ark", "--output", "bare.scores", "--card", "c", "--quiet"]) == 1
    assert capsys.readouterr().err == "score-trials: bare: trials have no labels: EER needs both classes\n"
