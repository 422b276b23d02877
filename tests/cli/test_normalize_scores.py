"""normalize-scores as a user runs it: against the formula, its protocol, its refusals."""

import json

import numpy as np
import pytest

from speakerkit.cli import normalize_scores, score_trials
from speakerkit.io import ark, files
from speakerkit.io.ark import ArkWriter

IDS = {"emb.ark": [f"u{n}" for n in range(12)], "cohort.ark": [f"c{n}" for n in range(20)]}


def plain_statistics(embeddings, cohort, top):
    """Mean and deviation of the highest cosines, in float64."""
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (embeddings, cohort)]
    highest = np.sort(units[0] @ units[1].T, axis=1)[:, -top:]
    return highest.mean(axis=1), highest.std(axis=1)


def write(path, ids, matrix, sha="ab" * 32):
    with ArkWriter(path, path.with_suffix(".scp")) as writer:
        for key, row in zip(ids, matrix, strict=True):
            writer.write(key, row)
    files.write_manifest(path, files.Manifest("extract-embeddings", {}, {}, "0"),
                         {"model": "tiny", "model_sha256": sha, "precision": "float32"}, [path.with_suffix(".scp")])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Embeddings, a cohort, trials of all pairs and their cosines."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    for name, ids in IDS.items():
        write(tmp_path / name, ids, rng.normal(size=(len(ids), 8)).astype(np.float32))
    lines = [f"u{a} u{b} {'target' if a // 3 == b // 3 else 'nontarget'}\n" for a in range(12) for b in range(a)]
    (tmp_path / "trials").write_text("".join(lines))
    assert score_trials.main(["trials", "emb.ark", "--output", "scores", "--quiet"]) == 0
    return tmp_path


def run(*options):
    return normalize_scores.main(["trials", "scores", "emb.ark", "cohort.ark", "--output", "out", *options])


def read(path):
    return [line.split() for line in path.read_text().splitlines()]


@pytest.mark.parametrize("sides", ["both", "enrol", "test"])
def test_scores_are_those_of_the_formula(folder, sides, capsys):
    assert run("--top", "5", "--sides", sides, "--json", "report.json") == 0
    embeddings, cohort = (np.stack([row for _, row in ark.iter_ark(folder / name)]) for name in IDS)
    mean, deviation = plain_statistics(embeddings, cohort, 5)
    for (enrol, test, score), (*pair, normalised) in zip(read(folder / "scores"), read(folder / "out"), strict=True):
        assert [enrol, test] == pair
        parts = [(float(score) - mean[n]) / deviation[n] for n in (int(enrol[1:]), int(test[1:]))]
        expected = {"both": np.mean(parts), "enrol": parts[0], "test": parts[1]}[sides]
        assert float(normalised) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    report = json.loads((folder / "report.json").read_text())
    assert report["num_cohort"] == 20 and 0 <= report["eer_percent"] <= 100
    protocol = report["protocol"]
    assert protocol["cohort_sha256"] == {"cohort.ark": files.sha256_file("cohort.ark")}
    assert (protocol["cohort_top"], protocol["cohort_sides"], protocol["model_sha256"]) == (5, sides, "ab" * 32)
    assert protocol["enrolment"] == "one embedding"
    assert "eer_percent" in capsys.readouterr().err


def test_a_rerun_does_nothing_and_another_cohort_is_noticed(folder, capsys):
    assert run("--top", "5") == 0
    before = (folder / "out").read_bytes()
    assert run("--top", "5") == 0 and "nothing to do" in capsys.readouterr().err
    assert run("--top", "6") == 2 and "--overwrite" in capsys.readouterr().err
    write(folder / "cohort.ark", IDS["cohort.ark"], np.random.default_rng(9).normal(size=(20, 8)).astype(np.float32))
    assert run("--top", "5") == 2
    assert (folder / "out").read_bytes() == before
    assert run("--top", "5", "--overwrite") == 0 and (folder / "out").read_bytes() != before


def test_a_cohort_of_speaker_means(folder):
    rows = dict(ark.iter_ark(folder / "cohort.ark"))
    groups = {f"s{n}": [f"c{n}", f"c{n + 10}"] for n in range(10)}
    (folder / "map").write_text("".join(f"{spk} {' '.join(utts)}\n" for spk, utts in groups.items()))
    write(folder / "means.ark", groups, [np.mean([rows[u] for u in utts], axis=0) for utts in groups.values()])
    assert run("--top", "0", "--cohort-map", "map") == 0
    assert normalize_scores.main(["trials", "scores", "emb.ark", "means.ark", "--output", "out2", "--top", "0"]) == 0
    ours, expected = ([float(row[2]) for row in read(folder / name)] for name in ("out", "out2"))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_the_same_mean_is_taken_from_both_sides_and_the_cohort(folder):
    centre = np.mean([row for _, row in ark.iter_ark(folder / "cohort.ark")], axis=0)
    for name in IDS:
        rows = dict(ark.iter_ark(folder / name))
        write(folder / f"centred.{name}", rows, [row - centre for row in rows.values()])
    assert run("--top", "5", "--subtract-mean", "cohort.ark") == 0
    command = ["trials", "scores", "centred.emb.ark", "centred.cohort.ark", "--output", "out2", "--top", "5"]
    assert normalize_scores.main(command) == 0
    ours, expected = ([float(row[2]) for row in read(folder / name)] for name in ("out", "out2"))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def refused(capsys, code, *options):
    assert run(*options) == code
    assert not (files.Path("out").exists())
    return capsys.readouterr().err


def test_refusals(folder, capsys):
    assert "--top 1: want 2 or more, or 0 for all" in refused(capsys, 2, "--top", "1")
    assert "cohort.ark: has 20 embeddings; --top 300 wants as many or more" in refused(capsys, 1)
    write(folder / "cohort.ark", IDS["cohort.ark"], np.ones((20, 8), np.float32))
    assert "cohort.ark: 'u" in (told := refused(capsys, 1, "--top", "5")) and "scores the same on 5" in told
    write(folder / "cohort.ark", IDS["cohort.ark"], np.ones((20, 5), np.float32))
    assert "cohort.ark: has 5 values an embedding, emb.ark has 8" in refused(capsys, 1, "--top", "5")
    write(folder / "cohort.ark", IDS["cohort.ark"], np.ones((20, 8), np.float32), sha="cd" * 32)
    assert "want one model" in refused(capsys, 1, "--top", "5")
    lines = (folder / "scores").read_text().splitlines(keepends=True)
    (folder / "scores").write_text("".join(lines[:-1]))
    assert "scores" in refused(capsys, 1, "--top", "5")


def test_the_output_is_no_input(folder, capsys):
    assert normalize_scores.main(["trials", "scores", "emb.ark", "cohort.ark", "--output", "scores"]) == 2
    assert "--output scores is one of the inputs" in capsys.readouterr().err


def test_scores_of_another_toolkit(folder):
    assert run("--top", "5") == 0
    wanted = (folder / "out").read_bytes()
    labels = [label for *_, label in read(folder / "trials")]
    for name, order in (("score-label", "{0} {1} {2} {3}\n"), ("label-score", "{0} {1} {3} {2}\n")):
        lines = [order.format(*row, label) for row, label in zip(read(folder / "scores"), labels, strict=True)]
        (folder / "scores.other").write_text("".join(lines))
        for options in ([], ["--scores-format", name]):
            assert normalize_scores.main(["trials", "scores.other", "emb.ark", "cohort.ark", "--output", "out", "--top",
                                          "5", "--overwrite", *options]) == 0
            assert (folder / "out").read_bytes() == wanted


def test_a_card_names_the_cohort(folder, capsys):
    (folder / "utt2spk").write_text("".join(f"u{n} s{n // 3}\n" for n in range(12)))
    card = ["--card", "card", "--utt2spk", "utt2spk", "--replicates", "20"]
    assert run("--top", "5", "--json", "report.json", *card) == 0
    found, report = json.loads((folder / "card.json").read_text()), json.loads((folder / "report.json").read_text())
    assert found["eer_percent"] == pytest.approx(report["eer_percent"], abs=1e-6)
    assert found["protocol"]["cohort_sha256"] == {"cohort.ark": files.sha256_file("cohort.ark")}
    assert found["protocol"]["scores"] == "out" and found["model"]["name"] == "tiny"
    assert run("--top", "5", "--overwrite", "--card", "trials/x") == 75
    assert run("--top", "5", "--utt2spk", "utt2spk") == 2 and "give --card PREFIX too" in capsys.readouterr().err
