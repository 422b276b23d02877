"""A streamed list against the same list in memory: equal bytes, equal numbers, the same faults."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speakerkit.cli.score_trials import main
from speakerkit.io import trial_spill, trial_stream
from speakerkit.io.ark import ArkWriter
from speakerkit.io.trial_spill import PairCounter
from speakerkit.jobs import streaming

NUM_IDS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Embeddings, some of them alike, so that scores tie; an enrolment map."""
    folder = tmp_path_factory.mktemp("streaming")
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(NUM_IDS // 2, 8)).astype(np.float32)
    with ArkWriter(folder / "emb.ark") as writer:
        for number in range(NUM_IDS):
            writer.write(f"u{number}", rows[number // 2] * (1 + number % 2))
    (folder / "map").write_text("".join(f"m{n} u{n} u{n + 1}\n" for n in range(0, NUM_IDS, 3)))
    (folder / "work").mkdir()
    return folder


def score(folder, trials: bytes, monkeypatch, is_streamed, *options, block_bytes=40):
    """Exit code, scores (None where there is no file), report of score-trials in a clean folder."""
    work = folder / "work"
    for path in work.iterdir():
        path.unlink()
    (work / "trials").write_bytes(trials)
    with monkeypatch.context() as patch:
        patch.chdir(work)
        if is_streamed:
            patch.setattr(streaming, "_TEXT_IN_MEMORY", 1e12)  # no list fits
            patch.setattr(trial_stream, "BLOCK_BYTES", block_bytes)
        code = main(["trials", "../emb.ark", "--output", "scores", "--json", "report", *options])
    report = json.loads((work / "report").read_text())
    report["seconds"] = 0
    scores = (work / "scores").read_bytes() if (work / "scores").exists() else None
    assert {path.name for path in work.iterdir()} <= {"trials", "scores", "scores.manifest.json", "report"}
    return code, scores, report


pairs = st.lists(st.tuples(st.integers(0, NUM_IDS - 1), st.integers(0, NUM_IDS - 1)), min_size=1, max_size=40)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs, st.sampled_from(["target nontarget", "1 0", ""]), st.booleans(), st.sampled_from(["\n", "\r\n", "  \n"]),
       st.integers(8, 200), st.booleans())
def test_bytes_and_numbers_are_those_of_memory(folder, monkeypatch, pairs, words, label_first, end, block_bytes,
                                               on_disk):
    lines = []
    for a, b in pairs:
        label = words.split()[int((a + b) % 3 > 0)] if words else ""
        fields = [label, f"u{a}", f"u{b}"] if label_first and words else [f"u{a}", f"u{b}", label]
        lines.append(" ".join(fields).strip() + end)
    options = ["--quiet", *(["--trials-format", "label-first"] if label_first and words else [])]
    trials = "".join(lines).encode()
    wanted = score(folder, trials, monkeypatch, False, *options)
    with monkeypatch.context() as patch:
        if on_disk:  # pairs go to disk when there is no memory to mark them
            patch.setattr(streaming, "_SHARE_OF_PAIRS", 1 << 60)
        assert score(folder, trials, monkeypatch, True, *options, block_bytes=block_bytes) == wanted
    assert wanted[0] == 0


def test_an_enrolment_map_and_another_operating_point(folder, monkeypatch):
    lines = [f"m{n} u{t} {'target' if t == n else 'nontarget'}\n" for n in (0, 3, 6) for t in range(12)]
    trials = "".join(lines).encode()
    options = ["--enrol-map", "../map", "--p-target", "0.5", "--c-fa", "3", "--quiet"]
    wanted = score(folder, trials, monkeypatch, False, *options)
    assert score(folder, trials, monkeypatch, True, *options) == wanted
    assert wanted[2]["num_same_recording"] == 6 and wanted[2]["protocol"]["enrolment"] == "mean of embeddings"


def test_espnets_trial_label_is_the_list_with_its_ids_apart(folder, monkeypatch):
    lines = [f"u{n} u{t} {int(t % 3 == n % 3)}\n" for n in range(5) for t in range(12)]
    plain, joined = "".join(lines).encode(), "".join(line.replace(" u", "*u", 1) for line in lines).encode()
    wanted = score(folder, plain, monkeypatch, False, "--quiet")
    assert wanted[0] == 0 and wanted[2]["num_target"] == 20
    for is_streamed in (False, True):
        code, scores, report = score(folder, joined, monkeypatch, is_streamed, "--quiet", block_bytes=100)
        assert (code, scores) == wanted[:2]
        assert {name: report[name] for name in report if name != "protocol"} == {
            name: wanted[2][name] for name in wanted[2] if name != "protocol"}


FAULTY = [
    b"", b"\n \n", b"u0 u1 target\nu0\nu0 u2 nontarget\n", b"u0 u1 target\nu0 u2 1\n", b"u0 u1 yes\nu0 u2 target\n",
    b"u0 u1\nu0 u2 target\n", b"u0 u1 target\n\n\nu0 u2 nontarget\n", b"1 u0 u1\n", b"u0 u1 target\nu\xff u2 target\n",
    b"u0 u1 target\nx u2 target\ny z nontarget\nx u2 target\n", b"u0 u1 target\n" * 9 + b"u0 u1\x00 target\n",
    b"u0\ru1 target\n", b"u0*u1 1\nu0*u2*u3 0\nu0 u2 1\n", b"u0*u1 1\nu0 u2*0\n", b"u0*x 1\nu0*u2 0\n",
]


@pytest.mark.parametrize("trials", FAULTY)
@pytest.mark.parametrize("block_bytes", [20, 1 << 20])
def test_faults_are_told_as_in_memory(folder, monkeypatch, capsys, trials, block_bytes):
    wanted = score(folder, trials, monkeypatch, False, "--quiet")
    told = capsys.readouterr().err
    assert wanted[0] == 1 and wanted[1] is None
    assert score(folder, trials, monkeypatch, True, "--quiet", block_bytes=block_bytes) == wanted
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("block_bytes", [20, 1 << 20])
@pytest.mark.parametrize("share", [4, 1 << 60])
def test_labels_that_contradict_each_other(folder, monkeypatch, capsys, block_bytes, share):
    monkeypatch.setattr(streaming, "_SHARE_OF_PAIRS", share)
    trials = b"u0 u1 target\nu0 u2 nontarget\nu0 u1 nontarget\nu0 u1 target\nu0 u2 target\n"
    code, scores, _ = score(folder, trials, monkeypatch, True, "--quiet", block_bytes=block_bytes)
    assert (code, scores) == (1, None)
    assert capsys.readouterr().err == (
        "score-trials: trials:3: 'u0 u1' is nontarget here and target on an earlier line\n"
        "score-trials: trials:5: 'u0 u2' is target here and nontarget on an earlier line\n")


def test_a_rerun_does_nothing_and_another_list_is_noticed(folder, monkeypatch, capsys):
    trials = folder / "work" / "trials"
    monkeypatch.setattr(streaming, "_TEXT_IN_MEMORY", 1e12)
    monkeypatch.chdir(folder)
    trials.write_text("u0 u1 1\nu0 u2 0\n")
    command = ["work/trials", "emb.ark", "--output", "again", "--quiet"]
    assert main(command) == 0
    before = (folder / "again").read_bytes()
    capsys.readouterr()
    assert main(command[:-1]) == 0 and "nothing to do" in capsys.readouterr().err
    monkeypatch.setattr(streaming, "_TEXT_IN_MEMORY", 1.0)
    assert main(command[:-1]) == 0 and "nothing to do" in capsys.readouterr().err  # nor in memory
    monkeypatch.setattr(streaming, "_TEXT_IN_MEMORY", 1e12)
    trials.write_text("u0 u1 1\nu0 u3 0\n")
    assert main(command) == 2 and "work/trials has changed since" in capsys.readouterr().err
    assert (folder / "again").read_bytes() == before
    assert main([*command, "--overwrite"]) == 0 and (folder / "again").read_bytes() != before


def test_standard_input_of_any_length(folder, monkeypatch, run_command):
    trials = "".join(f"u{n % 12} u{n % 7} {'target' if n % 5 else 'nontarget'}\n" for n in range(35))
    wanted = run_command("score-trials", "-", "emb.ark", "--quiet", cwd=folder, input=trials)
    code = ("import sys; from speakerkit.cli.score_trials import main; from speakerkit.jobs import streaming; "
            "from speakerkit.io import trial_stream; streaming._TEXT_IN_MEMORY = 1e12; trial_stream.BLOCK_BYTES = 64; "
            "sys.exit(main(['-', 'emb.ark', '--quiet']))")
    streamed = run_command("python", "-c", code, cwd=folder, input=trials)
    assert (streamed.returncode, streamed.stdout, streamed.stderr) == (0, wanted.stdout, wanted.stderr)


@pytest.mark.parametrize("trials, told", [
    (b"u0 u1 target\n" + b"x" * 400, "trials:2: line of more than 4"),
    (b"u0 u1 target\n" + b"\n" * 400 + b"u0 u2 nontarget\n", "trials:2: blank line"),
])
def test_what_would_fill_memory_without_a_trial(folder, monkeypatch, capsys, trials, told):
    monkeypatch.setattr(trial_stream, "_MOST_BYTES_WITHOUT_A_LINE", 100)
    assert score(folder, trials, monkeypatch, True, "--quiet")[:2] == (1, None)
    assert told.replace("more than 4", "more than 1") in capsys.readouterr().err.replace("more than 4", "more than 1")


def test_a_signal_ends_the_wait_for_a_pipe(folder):
    """Nobody writes the rest of the list; what was read is being worked on."""
    code = ("import sys; from speakerkit.cli.score_trials import main; from speakerkit.jobs import streaming; "
            "from speakerkit.io import trial_stream; streaming._EMBEDDINGS_IN_MEMORY = 1e12; "
            "trial_stream.BLOCK_BYTES = 26; "
            "sys.exit(main(['-', 'emb.ark', '--output', 'cut']))")
    with subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        process.stdin.write("u0 u1 target\n" * 2)
        process.stdin.flush()
        assert "scored as it is read" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
        assert "stopped by SIGTERM" in process.stderr.read()
    assert not [path.name for path in folder.iterdir() if "cut" in path.name]


def test_a_named_pipe(folder, monkeypatch):
    trials = "u0 u1 1\nu0 u2 0\n"
    os.mkfifo(folder / "fifo")
    with subprocess.Popen(["sh", "-c", f"printf '{trials}' > fifo"], cwd=folder):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(streaming, "_TEXT_IN_MEMORY", 1e12)
        assert main(["fifo", "emb.ark", "--output", "of_fifo", "--quiet"]) == 0
    assert [line.split()[1] for line in (folder / "of_fifo").read_text().splitlines()] == ["u1", "u2"]


def test_embeddings_have_to_fit(folder, monkeypatch, capsys):
    monkeypatch.setattr(streaming, "_TEXT_IN_MEMORY", 1e12)
    monkeypatch.setattr(streaming, "_BESIDES_MB", 501)
    monkeypatch.chdir(folder)
    Path("one").write_text("u0 u1\n")
    assert main(["one", "emb.ark", "--max-memory", "500", "--output", "none"]) == 2
    assert "--max-memory 500: the embeddings of emb.ark alone take 0 MB; give 501 or more" in capsys.readouterr().err
    assert not os.path.exists("none")
    assert main(["one", "emb.ark", "--output", "none", "--card", "c", "--max-memory", "500"]) == 2
    assert ("--max-memory 500: a card of 1 trials takes 501 MB; give as much, or leave --card out"
            in capsys.readouterr().err)
    assert not os.path.exists("none")


def test_a_card_of_streamed_scores_is_that_of_memory(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    Path("carded").write_text("".join(f"u{a} u{b} {int(a // 2 == b // 2)}\n" for a in range(12) for b in range(12)))
    Path("utt2spk").write_text("".join(f"u{a} s{a // 2}\n" for a in range(12)))
    made = []
    for is_streamed in (False, True):
        if is_streamed:
            monkeypatch.setattr(streaming, "_TEXT_IN_MEMORY", 1e12)
        memory = ["--max-memory", "500"] * is_streamed
        assert main(["carded", "emb.ark", "--output", "carded.scores", "--card", "carded.card", "--utt2spk", "utt2spk",
                     "--replicates", "20", *memory]) == 0
        assert ("scored as it is read" in capsys.readouterr().err) == is_streamed
        made.append([(path.name, path.read_bytes()) for path in sorted(folder.glob("carded.*"))])
        for path in folder.glob("carded.*"):
            path.unlink()
    assert len(made[0]) == 5 and made[0] == made[1]  # scores, the card's two files, a manifest each


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40), st.integers(1, 9))
def test_pairs_are_counted_alike_in_memory_and_on_disk(trials, size):
    found = []
    for max_bytes in (3, 2):  # two bits a pair
        with PairCounter(10, max_bytes) as counter:
            for start in range(0, len(trials), size):
                part = trials[start:start + size]
                counter.add(np.array([pair for pair, _ in part]), np.array([label for _, label in part]), 1 + start)
            found.append(counter.finish())
    first = {}
    wrong = [(line, pair, label) for line, (pair, label) in enumerate(trials, 1)
             if first.setdefault(pair, label) != label]
    assert found[0] == found[1] == (len(trials) - len(first), wrong[:trial_spill._MOST_CONFLICTS])
