"""The speech genre's cell is the reference system's subset, from CN-Celeb's layout to numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import prepare_cnceleb
import prepare_mini
from speakerkit.cli.break_down_results import main as break_down_results
from speakerkit.cli.compute_metrics import main as compute_metrics

POINT = ["--p-target", "0.01", "--c-miss", "10"]  # the reference system's


def read(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def eval_dir(tmp_path, monkeypatch):
    """Evaluation data of a miniature of 3 enrolled speakers of 8 recordings; scores with ties; a genre of each id."""
    noise = tmp_path / "noise.flac"
    soundfile.write(noise, 0.1 * np.random.default_rng(0).standard_normal(16000), 16000, subtype="PCM_16")
    prepare_mini.lay_out_cnceleb(tmp_path / "corpus", [[noise] * 8] * 2, [[noise] * 8] * 2, [[noise] * 8] * 4)
    folder = tmp_path / "eval"
    assert prepare_cnceleb.main([str(tmp_path / "corpus"), str(tmp_path / "train"), str(folder)]) == 0
    monkeypatch.chdir(folder)
    rng = np.random.default_rng(3)
    rows = read(folder / "trials")
    scores = {(e, t): rng.integers(8) / 10 + 0.3 * (label == "target") for e, t, label in rows}
    for name, listed in (("scores", rows), ("scores.speech", read(folder / "trials.speech"))):
        (folder / name).write_text("".join(f"{e} {t} {scores[e, t]:.1f}\n" for e, t, _ in listed), encoding="utf-8")
    utt_ids = [utt_id for utt_id, _ in read(folder / "wav.scp")]
    (folder / "utt2kind").write_text("".join(f"{utt_id} {utt_id.split('-')[1]}\n" for utt_id in utt_ids
                                             if not utt_id.endswith("-enroll")), encoding="utf-8")
    return folder


def test_the_speech_cell_is_the_references_subset(eval_dir, capsys):
    assert break_down_results(["trials", "scores", "--quiet", "--by", "test=utt2kind", "--by", "enrol=utt2kind",
                               "test=utt2kind", "--enrol-map", "enroll.map", "--json", "all.json", *POINT]) == 0
    assert compute_metrics(["trials.speech", "scores.speech", "--quiet", "--json", "speech.json", *POINT]) == 0
    result, speech = (json.loads((eval_dir / name).read_text(encoding="utf-8")) for name in ("all.json", "speech.json"))
    by_test, crossed = result["breakdowns"]
    cell, = (cell for cell in by_test["cells"] if cell["values"] == ["speech"])
    assert cell["num_target"] > 0
    assert 0 < cell["eer_percent"] < 100
    for name in ("num_target", "num_nontarget", "eer_percent", "eer_threshold", "min_dcf", "min_dcf_threshold"):
        assert cell[name] == speech[name]
    num_speech = sum("speech" in test_id for _, test_id, _ in read(eval_dir / "trials"))
    assert speech["num_target"] + speech["num_nontarget"] == num_speech
    for breakdown in (by_test, crossed):
        for name in ("num_target", "num_nontarget"):
            assert sum(cell[name] for cell in breakdown["cells"]) == result[name]
    column = [cell for cell in crossed["cells"] if cell["values"][1] == "speech"]
    assert sum(cell["num_target"] for cell in column) == speech["num_target"]
    assert len(column) >= 1
