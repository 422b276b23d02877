"""All pairs against the same pairs written out as trials, and as a plain loop over a matrix sees them."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speakerkit.cli import score_all_pairs, score_trials
from speakerkit.io import ark
from speakerkit.io.ark import ArkWriter
from speakerkit.scoring import all_pairs
from speakerkit.scoring.cosine import exact_products, scoring_rows

METRICS = ("num_target", "num_nontarget", "eer_percent", "eer_threshold", "min_dcf", "min_dcf_threshold")


def write(path, prefix, count, seed):
    """Embeddings of count / 3 speakers; every sixth is as the one before, so that scores tie."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(count, 6))
    with ArkWriter(path) as writer:
        row = None
        for number in range(count):
            if number % 6 or row is None:
                row = (centres[number // 3] + 0.4 * rng.normal(size=6)).astype(np.float32)
            writer.write(f"{prefix}{number}", row)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two archives that share three recordings, and everybody's speaker."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "emb.ark", "u", 26, 1)
    write(tmp_path / "own.ark", "e", 9, 2)
    shared = list(itertools.islice(ark.iter_ark(tmp_path / "emb.ark"), 3))
    with ArkWriter(tmp_path / "enrol.ark") as writer:
        for key, row in [*ark.iter_ark(tmp_path / "own.ark"), *shared]:
            writer.write(key, row)
    ids = [*(f"u{n}" for n in range(26)), *(f"e{n}" for n in range(9))]
    (tmp_path / "utt2spk").write_text("".join(f"{key} s{int(key[1:]) // 3}\n" for key in ids))
    return tmp_path


def read(path):
    return [line.split() for line in path.read_text().splitlines()]


def as_trials(folder, two_sets):
    """The same pairs through score-trials: its lines and its report."""
    speaker_of = dict(read(folder / "utt2spk"))
    ids = [key for key, _ in ark.iter_ark("emb.ark")]
    enrol = [key for key, _ in ark.iter_ark("enrol.ark")]
    pairs = [(a, b) for a in enrol for b in ids if a != b] if two_sets else list(itertools.combinations(ids, 2))
    (folder / "trials").write_text("".join(f"{a} {b} {int(speaker_of[a] == speaker_of[b])}\n" for a, b in pairs))
    more = ["--enrol-embeddings", "enrol.ark"] if two_sets else []
    assert score_trials.main(["trials", "emb.ark", "--output", "scores", "--json", "r", "--quiet", *more]) == 0
    return read(folder / "scores"), json.loads((folder / "r").read_text())


@pytest.mark.parametrize("two_sets", [False, True])
@pytest.mark.parametrize("rows, columns, most_kept", [(512, 2048, 1 << 22), (4, 5, 1 << 22), (5, 4, 3), (1, 1, 1)])
def test_pairs_and_metrics_are_those_of_the_list(folder, monkeypatch, two_sets, rows, columns, most_kept):
    monkeypatch.setattr(all_pairs, "_ROWS", rows)
    monkeypatch.setattr(all_pairs, "_COLUMNS", columns)
    monkeypatch.setattr(all_pairs, "_MOST_KEPT", most_kept)
    lines, wanted = as_trials(folder, two_sets)
    command = ["emb.ark", "--utt2spk", "utt2spk", "--json", "r", "--quiet", "--nj", "2",
               *(["--enrol-embeddings", "enrol.ark"] if two_sets else [])]
    for least in (-1, 0.3, 0.95):
        assert score_all_pairs.main([*command, "--min-score", str(least), "--output", f"above{least}"]) == 0
        assert read(folder / f"above{least}") == [line for line in lines if float(line[2]) >= least]
        found = json.loads((folder / "r").read_text())
        assert {name: found[name] for name in METRICS} == {name: wanted[name] for name in METRICS}
        assert found["num_pairs"] == wanted["num_trials"]
    assert (folder / "above-1").read_bytes() == (folder / "scores").read_bytes()


@pytest.mark.parametrize("two_sets", [False, True])
@pytest.mark.parametrize("rows, columns", [(512, 2048), (4, 5), (1, 2)])
@pytest.mark.parametrize("top", [1, 4, 100])
def test_the_highest_of_each_enrolment(folder, monkeypatch, two_sets, rows, columns, top):
    monkeypatch.setattr(all_pairs, "_ROWS", rows)
    monkeypatch.setattr(all_pairs, "_COLUMNS", columns)
    more = ["--enrol-embeddings", "enrol.ark"] if two_sets else []
    assert score_all_pairs.main(["emb.ark", "--top", str(top), "--output", "top", "--quiet", *more]) == 0
    sides = [list(ark.iter_ark(name)) for name in ("enrol.ark" if two_sets else "emb.ark", "emb.ark")]
    cosines = exact_products(*(scoring_rows(np.stack([row for _, row in side])) for side in sides))
    ids = [[key for key, _ in side] for side in sides]
    wanted = []
    for a, row in zip(ids[0], cosines, strict=True):
        order = [n for n in np.argsort(-row, kind="stable") if ids[1][n] != a][:top]
        wanted += [[a, ids[1][n], np.float32(row[n])] for n in order]
    assert [[a, b, np.float32(score)] for a, b, score in read(folder / "top")] == wanted


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(2, 30), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.integers(1, 3))
def test_counts_know_no_tiles_and_no_threads(monkeypatch, num, rows, columns, seed, num_threads):
    rng = np.random.default_rng(seed)
    units = scoring_rows(rng.normal(size=(num, 3)).astype(np.float32))
    speakers = rng.integers(0, 3, num)
    pairs = all_pairs.AllPairs(units, None, np.empty(0, dtype=np.int64), speakers)
    whole = pairs.count().of_class
    with monkeypatch.context() as patch:
        patch.setattr(all_pairs, "_ROWS", rows)
        patch.setattr(all_pairs, "_COLUMNS", columns)
        assert np.array_equal(pairs.count(num_threads).of_class, whole)
        assert sum(scores.size for scores, _ in pairs.blocks(num_threads)) == whole.sum() == pairs.num_pairs


def test_standard_output_and_a_rerun(folder, run_command, capsys):
    command = ["emb.ark", "--top", "2", "--min-score", "0.5"]
    printed = run_command("score-all-pairs", *command, cwd=folder)
    assert score_all_pairs.main([*command, "--output", "top"]) == 0
    assert (printed.returncode, printed.stdout, printed.stderr) == (0, (folder / "top").read_text(), "")
    assert all(float(score) >= 0.5 for *_, score in read(folder / "top"))
    capsys.readouterr()
    assert score_all_pairs.main([*command, "--output", "top"]) == 0 and "nothing to do" in capsys.readouterr().err
    assert score_all_pairs.main(["emb.ark", "--top", "3", "--output", "top"]) == 2
    assert "made with min_score 0.5, now null" in capsys.readouterr().err


def test_speakers_of_one_kind_have_no_metrics(folder, capsys):
    (folder / "utt2spk").write_text("".join(f"u{n} s\n" for n in range(26)))
    assert score_all_pairs.main(["emb.ark", "--utt2spk", "utt2spk", "--json", "r"]) == 0
    assert "utt2spk: no nontarget pairs, so there are no metrics" in capsys.readouterr().err
    assert json.loads((folder / "r").read_text())["num_pairs"] == 325


def test_refusals(folder, capsys):
    def refused(code, *command):
        assert score_all_pairs.main(list(command)) == code
        return capsys.readouterr().err

    assert "nothing to tell of the pairs: give --utt2spk" in refused(2, "emb.ark")
    assert "--output x: no pairs are written without" in refused(2, "emb.ark", "--utt2spk", "utt2spk", "--output", "x")
    assert "--output emb.ark is one of the inputs" in refused(2, "emb.ark", "--top", "1", "--output", "emb.ark")
    assert "'0' is not a number from 1" in refused(2, "emb.ark", "--top", "0")
    assert "no such file" in refused(1, "none.ark", "--top", "1")
    (folder / "few").write_text("u0 s\nu1 s\n")
    told = refused(1, "emb.ark", "--utt2spk", "few").splitlines()
    assert told[0] == "score-all-pairs: emb.ark: 'u2' has no speaker in few" and told[-1].endswith("and 14 more")
    with ArkWriter(folder / "one.ark") as writer:
        writer.write("u0", np.ones(6, np.float32))
    assert "one.ark: holds one embedding; a pair wants two" in refused(1, "one.ark", "--top", "1")
