"""compare-results as a user meets it."""

import json

import numpy as np
import pytest

from speakerkit.cli import compare_results, compute_metrics
from speakerkit.scoring.bootstrap import count_by_speaker
from speakerkit.scoring.intervals import compare_systems

NUM_SPEAKERS = 14


@pytest.fixture
def systems(tmp_path, monkeypatch):
    """trials, scores a and b in the working folder; (scores of both, labels, speakers of both sides)."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(1)
    enrol, test = np.divmod(np.arange(NUM_SPEAKERS**2).repeat(3), NUM_SPEAKERS)
    is_target = enrol == test
    a = (is_target + generator.normal(0, 0.5, len(enrol))).round(4)
    b = (a + 0.3 * is_target + generator.normal(0, 0.1, len(enrol))).round(4)
    ids = [f"s{e}-enroll s{t}-{n % 3}" for n, (e, t) in enumerate(zip(enrol, test, strict=True))]
    (tmp_path / "trials").write_text("".join(f"{pair} {int(label)}\n" for pair, label in zip(ids, is_target,
                                                                                             strict=True)))
    for name, scores in (("a", a), ("b", b)):
        lines = [f"{pair} {score}\n" for pair, score in zip(ids, scores, strict=True)]
        (tmp_path / name).write_text("".join(lines if name == "a" else reversed(lines)))  # any order
    return (a, b), is_target, enrol, test


def test_a_table_and_a_test(systems, capsys, tmp_path):
    assert compare_results.main(["a", "b", "--trials", "trials", "--replicates", "50", "--seed", "3", "--json", "j",
                                 "--markdown", "page.md"]) == 0
    out = capsys.readouterr().out
    (a, b), *others = systems
    expected = compare_systems(count_by_speaker(a, *others), count_by_speaker(b, *others), [None, (0.01, 1, 1)], 50,
                               np.random.default_rng(3))
    report = json.loads((tmp_path / "j").read_text())
    eer, dcf = report["comparisons"][:2]
    assert (eer["metric"], dcf["metric"], dcf["p_target"]) == ("eer_percent", "min_dcf", 0.01)
    for row, one, unit in ((eer, expected[0], 100), (dcf, expected[1], 1)):
        assert row["b"] - row["a"] == pytest.approx(row["difference"])
        assert [row[name] for name in ("difference", "low", "high", "p_value")] == pytest.approx(
            [unit * one.value, unit * one.low, unit * one.high, one.p_value])
    assert len(report["comparisons"]) == 5
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("|")]
    assert rows[0] == ["metric", "A: a", "B: b", "B - A", "95 % interval", "p"]
    assert rows[2][:4] == ["EER %", f"{eer['a']:.2f}", f"{eer['b']:.2f}", f"{eer['difference']:+.2f}"]
    assert [row[0] for row in rows[3:]] == ["minDCF(0.01, 1, 1)", "minDCF(0.05, 1, 1)", "minDCF(0.001, 1, 1)",
                                            "minDCF(0.01, 10, 1)"]
    assert "42 target and 546 nontarget trials of trials (" in out and "14 speakers, 14 with targets" in out
    assert (tmp_path / "page.md").read_text() == out


def test_the_seed_decides(systems, capsys):
    found = []
    for seed in ("1", "1", "2"):
        assert compare_results.main(["a", "b", "--trials", "trials", "--replicates", "20", "--seed", seed,
                                     "--quiet"]) == 0
        found.append(capsys.readouterr().out)
    assert found[0] == found[1] != found[2]


def test_own_operating_point_and_the_same_system(systems, capsys):
    assert compare_results.main(["a", "a", "--trials", "trials", "--replicates", "20", "--p-target", "0.3",
                                 "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "| minDCF(0.3, 1, 1) " in out
    assert out.count("1.0000 |\n") == 6  # p of no difference


@pytest.fixture
def cards(systems, capsys):
    for name in ("a", "b"):
        assert compute_metrics.main(["trials", name, "--card", f"card_{name}", "--replicates", "0", "--quiet"]) == 0
    capsys.readouterr()


def test_cards(cards, capsys):
    assert compare_results.main(["card_a.json", "card_b.json", "--replicates", "20", "--quiet"]) == 0
    by_cards = capsys.readouterr().out.replace("A: card_a", "A: a").replace("B: card_b", "B: b")
    assert compare_results.main(["a", "b", "--trials", "trials", "--replicates", "20", "--quiet"]) == 0
    assert [line.split() for line in by_cards.splitlines() if not line.startswith("|--")] == [
        line.split() for line in capsys.readouterr().out.splitlines() if not line.startswith("|--")]
    assert compare_results.main(["a", "card_b.json", "--replicates", "20", "--quiet"]) == 0  # trials of the one card


def test_cards_whose_files_have_changed(cards, capsys, tmp_path):
    (tmp_path / "b").write_text((tmp_path / "a").read_text())
    assert compare_results.main(["card_a.json", "card_b.json", "--replicates", "20"]) == 1
    assert capsys.readouterr().err == "compare-results: b: has changed since its card was written\n"
    (tmp_path / "trials").write_text("".join(sorted((tmp_path / "trials").read_text().splitlines(True))))
    assert compare_results.main(["card_a.json", "a", "--replicates", "20"]) == 1
    told = "trials: is not the list of card_a's card, or has changed since"
    assert capsys.readouterr().err == f"compare-results: {told}\n"


def test_cards_of_other_trials(cards, capsys, tmp_path):
    card = json.loads((tmp_path / "card_b.json").read_text())
    card["protocol"].update(trials="others", trials_sha256="ab" * 32)
    (tmp_path / "card_b.json").write_text(json.dumps(card))
    assert compare_results.main(["card_a.json", "card_b.json"]) == 1
    assert capsys.readouterr().err.startswith("compare-results: others: is another list (abababab) than trials (")


def test_labels_in_a_score_file(systems, capsys, tmp_path):
    labels = {line.rsplit(" ", 1)[0]: line.split()[2] for line in (tmp_path / "trials").read_text().splitlines()}
    lines = [line.rsplit(" ", 1) for line in (tmp_path / "a").read_text().splitlines()]
    words = ("nontarget", "target")
    (tmp_path / "a").write_text("".join(f"{pair} {score} {words[int(labels[pair])]}\n" for pair, score in lines))
    assert compare_results.main(["a", "b", "--replicates", "20", "--quiet"]) == 0


@pytest.mark.parametrize("words, code, told", [
    (["a", "b"], 1, "a: scores have no labels; give the labelled trials too"),
    (["none", "b", "--trials", "trials"], 1, "none: no such file"),
    (["none.json", "b"], 1, "none.json: no such file"),
    (["bad.json", "b"], 1, "bad.json: is no card (KeyError: 'protocol'); want what --card writes, or a score file"),
    (["text.json", "b"], 1, "text.json: is no card (JSONDecodeError: "),
    (["a", "short", "--trials", "trials"], 1, "short: 587 of 588 trials in trials have no score: "),
    (["a", "b", "--trials", "trials", "--replicates", "0"], 2, "--replicates 0 is too few for an interval; want at "
                                                               "least 20"),
    (["a", "b", "--trials", "trials", "--markdown", "./a"], 2, "--markdown ./a is one of the inputs"),
    (["few_a", "few_b", "--trials", "few"], 1, "few: 9 speakers have target trials; want at least 10"),
])
def test_refusals(systems, capsys, tmp_path, words, code, told):
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "text.json").write_text("no card")
    (tmp_path / "short").write_text((tmp_path / "b").read_text().splitlines(True)[-1])
    for name in ("trials", "a", "b"):
        lines = [line for line in (tmp_path / name).read_text().splitlines(True)
                 if all(int(word[1:].split("-")[0]) < 9 for word in line.split()[:2])]
        (tmp_path / ("few" if name == "trials" else f"few_{name}")).write_text("".join(lines))
    assert compare_results.main([*words, "--quiet"]) == code
    assert capsys.readouterr().err.startswith(f"compare-results: {told}")
