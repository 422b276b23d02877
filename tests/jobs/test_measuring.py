"""A score file measured through the disk against the same in memory: equal numbers, the same faults."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speakerkit.cli import score_trials
from speakerkit.cli.compute_metrics import main
from speakerkit.io import score_runs, trial_stream
from speakerkit.io.ark import ArkWriter
from speakerkit.jobs import measuring


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("measuring")


def measure(folder, trials, scores, monkeypatch, capsys, is_streamed, *options, block_bytes=60):
    """Exit code, what is told, report of compute-metrics; without trials the score file is alone."""
    for name, text in (("trials", trials), ("scores", scores)):
        if text is not None:
            (folder / name).write_bytes(text)
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        if is_streamed:
            patch.setattr(measuring, "_TEXT_IN_MEMORY", 1e12)  # nothing fits
            patch.setattr(trial_stream, "BLOCK_BYTES", block_bytes)
            patch.setattr(score_runs, "RUN_SCORES", 5)
            patch.setattr(score_runs, "_LEAST_READ", 2)
        names = ["scores"] if trials is None else ["trials", "scores"]
        capsys.readouterr()
        code = main([*names, "--json", "report", "--quiet", *options])
    report = json.loads((folder / "report").read_text())
    report["seconds"] = 0
    return code, capsys.readouterr(), report


def both_ways(folder, trials, scores, monkeypatch, capsys, *options, block_bytes=60):
    """What either way says; they have to say the same."""
    found = [measure(folder, trials, scores, monkeypatch, capsys, is_streamed, *options, block_bytes=block_bytes)
             for is_streamed in (False, True)]
    assert found[0] == found[1]
    return found[0]


trial_lists = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([-1.5, 0.25, 0.250000001]) |
                                 st.floats(-2, 2)), min_size=2, max_size=40, unique_by=lambda one: one[:2])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trial_lists, st.randoms(use_true_random=False), st.integers(10, 200), st.sampled_from(
    [[], ["--p-target", "0.3", "--c-miss", "5"]]), st.integers(0, 3))
def test_numbers_are_those_of_memory(folder, monkeypatch, capsys, trials, random, block_bytes, options, num_repeated):
    labels = {pair: pair[0] % 2 == pair[1] % 2 for pair in [(0, 0), (0, 1), *(one[:2] for one in trials)]}
    scores = {one[:2]: one[2] for one in trials} | {(0, 0): 0.5, (0, 1): -0.25}
    pairs = [*labels, *list(labels)[:num_repeated]]
    lines = [f"u{a} u{b} {scores[a, b]!r}\n" for a, b in labels]
    random.shuffle(lines)
    listed = "".join(f"u{a} u{b} {int(labels[a, b])}\n" for a, b in pairs).encode()
    code, told, report = both_ways(folder, listed, "".join(lines).encode(), monkeypatch, capsys, *options,
                                   block_bytes=block_bytes)
    assert code == 0 and report["num_trials"] == len(pairs) and report["num_repeated"] == num_repeated
    assert report["num_same_recording"] == sum(a == b for a, b in pairs)
    assert told.out.startswith(f"num_target {sum(labels[pair] for pair in pairs)}\n")


@pytest.mark.parametrize("trials, scores", [
    (None, b"a b 0.5 target\na c 0.25 nontarget\n"),
    (None, b"a*b 0.5 1\na*c 0.25 0\nd*c 0.125 0\n"),
    (b"1 a b\n0 a c\n", b"a c 0.25\na b 0.5\n"),
    (b"a*b 1\na*c 0\n", b"a c 0.25\na b 0.5\n"),
    (b"a  b\ttarget\r\na c nontarget\r\n\n \n", b" a c 0.25\na b 5e-1"),
    (b"a b target\na c nontarget\n", b"a c 0.25 nontarget\na b 0.5 target\n"),
])
def test_all_that_files_hold(folder, monkeypatch, capsys, trials, scores):
    options = ["--trials-format", "label-first"] if trials and trials.startswith(b"1 ") else []
    for block_bytes in (12, 1 << 20):
        assert both_ways(folder, trials, scores, monkeypatch, capsys, *options, block_bytes=block_bytes)[0] == 0


GOOD = b"a b target\na c nontarget\n"


@pytest.mark.parametrize("trials, scores", [
    (b"", b"a b 1\n"), (GOOD, b""), (b"a b\na c\n", b"a b 1\na c 0\n"), (b"a b target\n", b"a b 1\n"),
    (b"a b nontarget\n", b"a b 1\n"), (GOOD + b"a\n", b"a b 1\n"), (GOOD, b"a b 1\na c x\n"),
    (GOOD, b"a b 1\na c nan\n"), (GOOD, b"a b 1\n"), (GOOD, b"a b 1\na c 0\na d 3\nd a 4\n"), (GOOD, b"x y 1\nz b 2\n"),
    (GOOD, b"a b 1\na c 0\na b 2\n"), (GOOD, b"a b 1\na c 0\na b 1\n"), (GOOD + b"a b nontarget\n", b"a b 1\na c 0\n"),
    (GOOD, b"a b 1 nontarget\na c 0 nontarget\n"), (None, b"a b 1\n"), (None, b"a b 1 target\na b 2 target\n"),
    (None, b"a b 1 target\na b 1 nontarget\n"), (GOOD, b"a b 1\na\xc2\xa0x c 0\n"), (GOOD, b"a b 1\na \xff 0\n"),
    (b"".join(b"e%d t%d %d\n" % (n % 7, n % 11, n % 2) for n in range(70)), b"e1 t1 1\n"),
])
def test_faults_are_those_of_memory(folder, monkeypatch, capsys, trials, scores):
    for block_bytes in (12, 1 << 20):
        code, told, report = both_ways(folder, trials, scores, monkeypatch, capsys, block_bytes=block_bytes)
        if (trials, scores) != (GOOD, b"a b 1\na c 0\na b 1\n"):  # the same score twice is no fault
            assert code == 1 and told.err.startswith("compute-metrics: ") and "error" in report


def test_scores_of_score_trials_keep_their_protocol(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    rng = np.random.default_rng(1)
    with ArkWriter("emb.ark") as writer:
        for number in range(20):
            writer.write(f"u{number}", rng.normal(size=8).astype(np.float32))
    trials = "".join(f"u{a} u{b} {int(a % 3 == b % 3)}\n" for a in range(20) for b in range(20)).encode()
    (folder / "trials").write_bytes(trials)
    assert score_trials.main(["trials", "emb.ark", "--output", "scores", "--quiet", "--overwrite"]) == 0
    _, _, report = both_ways(folder, trials, (folder / "scores").read_bytes(), monkeypatch, capsys)
    assert report["protocol"]["embeddings"] == "emb.ark" and report["protocol"]["enrolment"] == "one embedding"


def test_the_option(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (folder / "trials").write_bytes(GOOD)
    (folder / "scores").write_bytes(b"a b 1\na c 0\n")
    monkeypatch.setattr(measuring, "_BESIDES_MB", 450)
    assert main(["trials", "scores", "--max-memory", "500"]) == 0  # it fits
    assert "measured as it is read" not in capsys.readouterr().err
    assert main(["trials", "scores", "--max-memory", "450"]) == 0
    assert "scores: measured as it is read, in about 450 MB" in capsys.readouterr().err
    assert main(["trials", "scores", "--max-memory", "500", "--convention", "kaldi"]) == 2
    assert "--convention needs all trials in memory; leave --max-memory out" in capsys.readouterr().err
    assert main(["trials", "scores", "--max-memory", "449", "--card", "card"]) == 2
    assert ("--max-memory 449: a card of these trials takes up to 450 MB; give as much, or leave --card out"
            in capsys.readouterr().err)
    assert main(["trials", "scores", "--max-memory", "450", "--card", "card", "--replicates", "0", "--quiet"]) == 0
    assert (folder / "card.json").exists()
