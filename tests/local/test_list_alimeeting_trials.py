"""The AliMeeting protocol: its pairs rebuilt the slow way from its definition, its lists, counts and checksums."""

import hashlib
import itertools
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import list_alimeeting_trials
import prepare_alimeeting
from alimeeting_corpus import Session
from alimeeting_protocol import hold_out, list_pairs
from speakerkit.io.trials import read_trials


def make_session(session_id: str, *speakers: str, subset: str = "Train") -> Session:
    return Session(subset, session_id, None, {}, {spk_id: [] for spk_id in speakers}, {})


# ---- who is held out

def test_groups_go_whole_and_in_the_order_of_their_hash():
    sessions = [make_session("R0001_M0001", "a", "b"), make_session("R0001_M0002", "b", "c"),
                make_session("R0002_M0003", "d"), make_session("R0002_M0004", "d", "e"),
                make_session("R0003_M0005", "f"), make_session("R0003_M0006", "f"), make_session("R0004_M0007", "g")]
    # Three groups have somebody who comes again: b, d and f. The hash of the first session's id orders them.
    firsts = sorted(["R0001_M0001", "R0002_M0003", "R0003_M0005"],
                    key=lambda session_id: hashlib.sha256(session_id.encode()).hexdigest())
    for share, wanted in ((0.0, 0), (0.1, 1), (1 / 3, 1), (0.5, 2), (1.0, 3)):
        held_out = [session.session_id for session in hold_out(sessions, share)]
        rooms = {session_id[:5] for session_id in firsts[:wanted]}
        assert held_out == [session.session_id for session in sessions if session.room in rooms]


@given(st.lists(st.sets(st.integers(0, 12).map(str), min_size=1, max_size=4), min_size=1, max_size=12),
       st.floats(0, 1))
def test_nobody_is_on_both_sides_and_enough_are_held_out(meetings, share):
    sessions = [make_session(f"R0001_M{number:04d}", *sorted(people)) for number, people in enumerate(meetings)]
    held_out = hold_out(sessions, share)
    inside = {spk_id for session in held_out for spk_id in session.speakers}
    outside = {spk_id for session in sessions if session not in held_out for spk_id in session.speakers}
    assert not inside & outside
    several = {spk_id for a, b in itertools.combinations(meetings, 2) for spk_id in a & b}
    assert len(inside & several) >= math.ceil(share * len(several))


# ---- which pairs

def pairs_by_the_book(names, speakers, sessions, same_session_targets) -> list[tuple[int, int, bool]]:
    """The definition's text, one pair at a time, in Python's own whole numbers."""
    def h(name: str) -> int:
        return int(hashlib.sha256(name.encode("ascii")).hexdigest()[:8], 16)

    pairs = []
    for a in range(len(names)):
        for b in range(a + 1, len(names)):
            is_target, same_session = speakers[a] == speakers[b], sessions[a] == sessions[b]
            sampled = ((h(names[a]) ^ h(names[b])) * 2654435769) % 2 ** 32 < 2 ** 27
            if (same_session_targets or not same_session) if is_target else (same_session or sampled):
                pairs.append((a, b, is_target))
    return pairs


@pytest.mark.parametrize("same_session_targets", [True, False])
def test_pairs_are_those_of_the_definition(same_session_targets):
    stretches = sorted((f"SPK{spk:04d}-R0001_M{session:04d}-{time:06d}-{time + 400:06d}", spk, session)
                       for session in range(6) for spk in (session % 4, 4 + session % 3) for time in (0, 777, 91234))
    names, speakers, sessions = zip(*stretches, strict=True)
    pairs = list_pairs(names, speakers, sessions, same_session_targets)
    expected = pairs_by_the_book(names, speakers, sessions, same_session_targets)
    assert list(zip(pairs.enrol.tolist(), pairs.test.tolist(), pairs.is_target.tolist(), strict=True)) == expected
    assert sum(not target and sessions[a] != sessions[b] for a, b, target in expected) > 3


def test_one_in_32_pairs_across_sessions_is_kept():
    names = [f"SPK{number:04d}-R0001_M{number:04d}-000000-000400" for number in range(1000)]
    pairs = list_pairs(names, names, names, True)
    # 499,500 pairs, each kept with probability 1/32: 15,609 expected, standard deviation 123.
    assert abs(len(pairs.enrol) - 499_500 / 32) < 5 * 123


def test_no_stretches_no_pairs():
    assert len(list_pairs([], [], [], True).enrol) == 0


# ---- the lists

@pytest.fixture(scope="module")
def corpus(tmp_path_factory, lay_out_meeting) -> Path:
    """Two Test sessions, and three of Train of which two share a speaker."""
    folder = tmp_path_factory.mktemp("protocol") / "corpus"
    a, b = "F_SPK0001", "M_SPK0002"
    lay_out_meeting(folder, "Train", "R0001_M0001", {a: [(0, 4), (10, 14)], b: [(5, 9)]})
    lay_out_meeting(folder, "Train", "R0001_M0002", {a: [(1, 4)], "M_SPK0003": [(5, 8.5)]})
    lay_out_meeting(folder, "Train", "R0002_M0003", {"F_SPK0004": [(1, 9)]})
    for number, session_id in ((1, "R8001_M8001"), (3, "R8002_M8002")):
        lay_out_meeting(folder, "Test", session_id, {f"N_SPK800{number}": [(0, 3), (6, 9.5), (12, 14.99)],
                                                     f"N_SPK800{number + 1}": [(3, 6), (9, 10), (15, 19)]})
    return folder


@pytest.fixture
def run(tmp_path: Path, corpus: Path):
    """``run(options...)`` lists the trials; returns the exit code and the folder."""
    def list_them(*options: object) -> tuple[int, Path]:
        folder = tmp_path / "protocol"
        return list_alimeeting_trials.main([*map(str, options), str(corpus), str(folder)]), folder
    return list_them


def lines(path: Path) -> list[tuple[str, ...]]:
    return [tuple(line.split(" ")) for line in path.read_text().splitlines()]


def test_conditions_share_their_pairs(run):
    code, folder = run()
    assert code == 0
    far, near, mixed = (lines(folder / f"test.{name}") for name in ("far-far", "near-near", "near-far"))
    assert len(far) == len(near) == len(mixed) > 0
    for (far_a, far_b, label), (near_a, near_b, near_label), (mixed_a, mixed_b, mixed_label) in zip(
            far, near, mixed, strict=True):
        assert far_a.replace("-far-", "-near-") == near_a == mixed_a
        assert near_b.replace("-near-", "-far-") == far_b == mixed_b
        assert label == near_label == mixed_label == ("target" if far_a[:7] == far_b[:7] else "nontarget")
    assert far[0] == ("SPK8001-R8001_M8001-far-000000-000300", "SPK8001-R8001_M8001-far-000600-000900", "target")


def test_stretches_have_three_seconds_and_are_cut_by_others(run):
    _, folder = run()
    far = {line[0] for line in lines(folder / "far" / "segments") if "R8001" in line[0]}
    # 12 to 14.99 is too short, and 6 to 9.5 is cut at 9, where the other one joins in.
    assert far == {"SPK8001-R8001_M8001-far-000000-000300", "SPK8001-R8001_M8001-far-000600-000900",
                   "SPK8002-R8001_M8001-far-000300-000600", "SPK8002-R8001_M8001-far-001500-001900"}
    assert len(lines(folder / "near" / "segments")) == len(lines(folder / "far" / "segments"))


def test_held_out_targets_are_of_two_sessions(run):
    _, folder = run()
    trials = lines(folder / "heldout.far-far")
    assert {line[0][:7] for line in trials} | {line[1][:7] for line in trials} <= {"SPK0001", "SPK0002", "SPK0003"}
    targets = [line for line in trials if line[2] == "target"]
    assert len(targets) == 2  # two stretches of SPK0001 in one session, one in the other
    assert all(enrol.split("-")[1] != test.split("-")[1] for enrol, test, _ in targets)
    # Two pairs of SPK0001 and SPK0002 in the first, one of SPK0001 and SPK0003 in the second.
    assert sum(enrol.split("-")[1] == test.split("-")[1] for enrol, test, label in trials) == 3


def test_held_out_speakers_are_not_in_training(run, corpus, tmp_path):
    _, folder = run()
    assert prepare_alimeeting.main([str(corpus), str(tmp_path / "data")]) == 0
    training = {line[1] for line in lines(tmp_path / "data" / "train" / "utt2spk")}
    evaluated = {line[1] for line in lines(folder / "far" / "utt2spk")}
    assert training == {"SPK0004"}
    assert not training & evaluated


def test_the_record_of_a_protocol(run, corpus, capsys):
    _, folder = run()
    record = json.loads((folder / "protocol.json").read_text())
    assert len(record["lists"]) == 6
    for name, facts in record["lists"].items():
        assert facts["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
        trials = read_trials(folder / name)
        assert facts["num_trials"] == len(trials.is_target)
        assert facts["num_target"] == trials.is_target.sum()
        assert facts["num_trials"] == (facts["num_target"] + facts["num_nontarget_same_session"]
                                       + facts["num_nontarget_across_sessions"])
    assert record["lists"]["test.far-far"]["num_target"] == 4
    assert record["lists"]["test.far-far"]["num_nontarget_same_session"] == 2 * 4
    assert record["parts"]["test"]["speakers"] == ["SPK8001", "SPK8002", "SPK8003", "SPK8004"]
    assert record["counts"]["test stretches"] == {"expected": 3161, "here": 8}
    assert record["is_standard"] is True
    assert str(corpus) not in (folder / "protocol.json").read_text()
    told = capsys.readouterr().err
    assert "test stretches: 8 (expected of the real corpus: 3,161)" in told
    assert "this isn't the whole corpus: results on these lists don't compare" in told


def test_tables_name_every_utterance(run):
    _, folder = run()
    named = {line[0] for field in ("far", "near") for line in lines(folder / field / "utt2spk")}
    for table in ("utt2condition", "utt2session", "utt2room", "utt2gender", "utt2dur"):
        assert {line[0] for line in lines(folder / table)} == named


def test_lists_are_the_same_wherever_the_corpus_lies(run, corpus, tmp_path):
    _, folder = run()
    other = tmp_path / "elsewhere"
    other.symlink_to(corpus)
    assert list_alimeeting_trials.main([str(other), str(tmp_path / "again")]) == 0
    assert (folder / "protocol.json").read_bytes() == (tmp_path / "again" / "protocol.json").read_bytes()


def test_one_field_and_nobody_held_out(run, capsys):
    code, folder = run("--fields", "far", "--held-out", 0)
    assert code == 0
    assert sorted(path.name for path in folder.iterdir() if "." in path.name) == ["protocol.json", "test.far-far"]
    assert json.loads((folder / "protocol.json").read_text())["is_standard"] is False
    assert "other options than the protocol's: results on these lists don't compare" in capsys.readouterr().err


def test_refusals(run, capsys, tmp_path, lay_out_meeting):
    code, folder = run("--min-duration", 3.8)
    assert code == 1
    assert "the test part has 2 stretches of at least 3.8 s, and no pairs of both kinds" in capsys.readouterr().err
    assert not folder.exists()
    lay_out_meeting(tmp_path / "train only", "Train", "R0001_M0001", {"F_SPK0001": [(0, 4)]})
    assert list_alimeeting_trials.main([str(tmp_path / "train only"), str(folder)]) == 1
    assert "train only: has no Test_Ali; the protocol needs it" in capsys.readouterr().err
