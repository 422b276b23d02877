"""Other toolkits' numbers: what their scripts printed, and slow plain versions of their steps on tied scores."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerkit.scoring import peer_metrics
from speakerkit.scoring.conventions import CONVENTIONS, print_as

GOLDEN = Path(__file__).parent.parent / "golden" / "conventions.json"

few_values = st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=2, max_size=40).filter(
    lambda trials: 0 < sum(is_target for _, is_target in trials) < len(trials))


def draw_scores(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The score sets of tests/golden/conventions.json: 6, 2 or 1 decimals, in mixed order or targets first."""
    rng = np.random.default_rng(seed)
    num_target, num_nontarget = rng.integers(2, 60), rng.integers(2, 300)
    scores = np.append(rng.normal(rng.uniform(0.5, 3), 1, num_target), rng.normal(0, 1, num_nontarget)) / 4
    scores = np.round(scores, (6, 2, 1)[seed % 3]) + 0.0  # no -0.0
    is_target = np.arange(len(scores)) < num_target
    order = rng.permutation(len(scores)) if seed % 2 else np.arange(len(scores))
    return scores[order], is_target[order]


@pytest.mark.parametrize("row", json.loads(GOLDEN.read_text(encoding="utf-8")), ids=lambda row: f"seed{row['seed']}")
def test_what_the_scripts_printed(row):
    scores, is_target = draw_scores(row["seed"])
    has_ties = len(np.unique(scores)) < len(scores)
    # On ties WeSpeaker's and 3D-Speaker's numbers depend on the processor, so those are not stored.
    assert row["printed"].keys() == CONVENTIONS.keys() - ({"wespeaker", "3dspeaker"} if has_ties else set())
    for name, text in row["printed"].items():
        assert print_as(name, scores, is_target, scores_name="x.score").text == text, name


def sorts_ties_as_where_the_scripts_ran() -> bool:
    """Whether numpy's default sort leaves ties here as it did on the machine that ran WeSpeaker's script."""
    order = np.argsort(np.arange(600) % 3 / 4)
    return int(np.dot(order, np.arange(600)**2 % 1009)) == 91894784  # with AVX-512


def test_the_peers_own_results(conventions_dir):
    """Four score sets in two orders; full digits. Skipped where the checkout stands alone."""
    if conventions_dir is None:
        pytest.skip("no folder of the peers' results beside the checkout; tests/golden/conventions.json is tested")
    expected = json.loads((conventions_dir / "expected.json").read_text(encoding="utf-8"))
    assert len(expected) == 8
    for name, peers in expected.items():
        rows, trials = ([line.split() for line in (conventions_dir / f"{name}.{kind}").read_text("utf-8").splitlines()]
                        for kind in ("scores", "trials"))
        assert [row[:2] for row in rows] == [row[:2] for row in trials]
        scores, is_target = np.array([float(row[2]) for row in rows]), np.array([row[2] == "target" for row in trials])
        assert print_as("reference", scores, is_target).text.splitlines() == list(peers["reference"].values())
        kaldi = print_as("kaldi", scores, is_target).metrics
        assert peers["kaldi"]["compute_min_dcf_p0.01"].startswith(
            f"minDCF is {kaldi['min_dcf']:.4f} at threshold {kaldi['min_dcf_threshold']:.4f} ")
        found = print_as("speechbrain", scores, is_target).metrics
        assert {key: found[key] for key in peers["speechbrain"]} == peers["speechbrain"]
        if len(np.unique(scores)) == len(scores) or sorts_ties_as_where_the_scripts_ran():
            for toolkit in ("wespeaker", "3dspeaker"):
                found = print_as(toolkit, scores, is_target).metrics
                assert {key: found[key] for key in peers[toolkit]} == peers[toolkit], (name, toolkit)


# --- slow plain versions ----------------------------------------------------------------------------------------------


def counted_rates(labels: list[bool]) -> list[tuple[float, float]]:
    """(p_miss, p_fa) after each trial of a sorted list."""
    num_target, rates = sum(labels), []
    for end in range(1, len(labels) + 1):
        missed = sum(labels[:end])
        rates.append((missed / num_target, 1 - (end - missed) / (len(labels) - num_target)))
    return rates


def cheapest(rates: list[tuple[float, float]], p_target: float, c_miss: float, c_fa: float) -> tuple[float, int]:
    costs = [c_miss * p_miss * p_target + c_fa * p_fa * (1 - p_target) for p_miss, p_fa in rates]
    best = min(range(len(costs)), key=costs.__getitem__)
    return costs[best] / min(c_miss * p_target, c_fa * (1 - p_target)), best


def split(trials):
    return np.array([score / 4 for score, _ in trials]), np.array([is_target for _, is_target in trials])


@given(few_values, st.floats(0.001, 0.9), st.sampled_from([1.0, 10.0]))
def test_stable_minimum_cost(trials, p_target, c_miss):
    """Python's sort keeps the file's order of ties, so both numbers may depend on it."""
    scores, is_target = split(trials)
    order = sorted(range(len(scores)), key=lambda place: scores[place])
    cost, best = cheapest(counted_rates([bool(is_target[place]) for place in order]), p_target, c_miss, 1.0)
    for name in ("reference", "kaldi"):
        metrics = print_as(name, scores, is_target, (p_target, c_miss, 1.0)).metrics
        assert (metrics["min_dcf"], metrics["min_dcf_threshold"]) == (cost, scores[order[best]])


@given(few_values)
def test_interpolation_between_trials(trials):
    scores, is_target = split(trials)
    order = np.argsort(scores)  # as numpy's default sort leaves ties on this machine
    rates = counted_rates(is_target[order].tolist())
    before = [place for place, (p_miss, p_fa) in enumerate(rates) if p_miss < p_fa]
    if not before:
        with pytest.raises(ValueError, match="IndexError"):
            print_as("wespeaker", scores, is_target)
        return
    last, first = before[-1], next(place for place, (p_miss, p_fa) in enumerate(rates) if p_miss >= p_fa)
    (miss, fa), (miss_before, fa_before) = rates[first], rates[last]
    eer = miss + (miss - fa) / (fa_before - fa - (miss_before - miss)) * (miss_before - miss)
    for name in ("wespeaker", "3dspeaker"):
        metrics = print_as(name, scores, is_target).metrics
        assert metrics["eer_percent"] == 100 * eer
        assert metrics["eer_threshold"] == scores[order[first]]
        assert metrics["min_dcf"] == cheapest(rates, 0.01, 1.0, 1.0)[0]


def roc_corners(scores, is_target):
    """(p_fa, p_miss, threshold) from infinity down; a point whose neighbours are as far in both counts is no corner."""
    points = [(int(np.sum(~is_target & (scores >= x))), int(np.sum(is_target & (scores >= x))), float(x))
              for x in sorted(set(scores.tolist()), reverse=True)]
    kept = [point for place, point in enumerate(points) if place in (0, len(points) - 1) or any(
        points[place + 1][axis] - point[axis] != point[axis] - points[place - 1][axis] for axis in (0, 1))]
    num_nontarget, num_target, _ = points[-1]
    return [(fas / num_nontarget, 1 - hits / num_target, x) for fas, hits, x in [(0, 0, math.inf), *kept]]


@given(few_values)
def test_the_nearest_corner(trials):
    scores, is_target = split(trials)
    p_fa, p_miss, threshold = min(roc_corners(scores, is_target), key=lambda point: abs(point[1] - point[0]))
    metrics = print_as("reference", scores, is_target).metrics
    assert (metrics["eer_percent"], metrics["eer_threshold"]) == (100 * ((p_fa + p_miss) / 2), threshold)
    assert f"\neer: {max(p_fa, p_miss) * 100}, mindcf: " in print_as("espnet", scores, is_target).text


@given(few_values)
def test_kaldis_eer(trials):
    scores, is_target = split(trials)
    target, nontarget = sorted(scores[is_target].tolist()), sorted(scores[~is_target].tolist())
    place = 0
    while place + 1 < len(target):
        if nontarget[len(nontarget) - 1 - int(len(nontarget) * place / len(target))] < target[place]:
            break
        place += 1
    metrics = print_as("kaldi", scores, is_target).metrics
    assert metrics["eer_percent"] == 100 * float(np.float32(place / len(target)))
    assert metrics["eer_threshold"] == target[place]  # quarters are exact in single precision


@given(few_values)
def test_speechbrains_search(trials):
    scores, is_target = split(trials)
    distinct = sorted(set(scores.tolist()))
    thresholds = sorted(distinct + [(low + high) / 2 for low, high in zip(distinct[:-1], distinct[1:], strict=True)])
    best, least = None, None
    for x in thresholds:
        p_miss = np.float32(np.sum(scores[is_target] <= x)) / np.float32(np.sum(is_target))
        p_fa = np.float32(np.sum(scores[~is_target] > x)) / np.float32(np.sum(~is_target))
        if best is None or float(abs(p_fa - p_miss)) < abs(best[0] - best[1]):
            best = float(p_fa), float(p_miss), x
        cost = np.float32(1) * p_miss * np.float32(0.01) + np.float32(1) * p_fa * np.float32(0.99)
        if least is None or cost < least[0]:
            least = cost, x
    metrics = print_as("speechbrain", scores, is_target).metrics
    assert metrics == {"eer_percent": 100 * ((best[0] + best[1]) / 2), "eer_threshold": best[2],
                       "min_dcf_unnormalised": float(least[0]), "min_dcf_threshold": least[1],
                       "dcf_p_target": 0.01, "dcf_c_miss": 1.0, "dcf_c_fa": 1.0}


def test_gaps_that_single_precision_can_not_tell_apart():
    """1/3 - 0 and 1 - 2/3 are one number after rounding and two before: the second point isn't below the first."""
    rates = peer_metrics.SinglePrecisionRates(np.array([1.0, 2.0, 3.0]),
                                              np.array([0, 1, 2], dtype=np.float32) / np.float32(3),
                                              np.array([1, 2, 3], dtype=np.float32) / np.float32(3))
    gaps = np.abs(rates.p_fa - rates.p_miss)
    exact = np.abs(rates.p_fa.astype(float) - rates.p_miss.astype(float))
    best = 0
    for place in (1, 2):
        if float(gaps[place]) < exact[best]:
            best = place
    assert peer_metrics.speechbrain_eer(rates)[1] == rates.thresholds[best]


# --- quirks, each by hand ------------------------------------------------------------------------------

# One score for all: no threshold tells the classes apart, an EER of 50 %; 2 targets, 2 nontargets, targets first.
SAME = np.zeros(4), np.array([True, True, False, False])


def test_ties_in_file_order():
    """Nontargets first: a place in the list parts the classes. Targets first: all are missed before one is rejected."""
    assert print_as("kaldi", SAME[0], SAME[1][::-1]).metrics["min_dcf"] == 0
    assert print_as("kaldi", *SAME).metrics["min_dcf"] == 1
    assert print_as("speechbrain", *SAME).metrics == print_as("speechbrain", SAME[0], SAME[1][::-1]).metrics


def test_espnets_mean_is_a_spread():
    scores, is_target = np.array([5.0, 7.0, 1.0, 3.0]), np.array([True, True, False, False])
    assert print_as("espnet", scores, is_target).text == (
        "trg_mean: 6.0, trg_std: 1.0\nnontrg_mean: 1.0, nontrg_std: 1.0\neer: 0.0, mindcf: 0.0\n")


def test_kaldi_never_passes_the_last_target():
    assert print_as("kaldi", np.array([0.0, 1.0]), np.array([True, False])).metrics["eer_percent"] == 0


@pytest.mark.parametrize("point, kaldi, threed", [
    (None, ["EER: 0%", "minDCF(p-target=0.01): 0.0000", "minDCF(p-target=0.001): 0.0000"], "0.01 c_miss:1 c_fa:1"),
    ((0.05, 1.0, 1.0), ["EER: 0%", "minDCF(p-target=0.05): 0.0000"], "0.05 c_miss:1 c_fa:1"),
    ((0.01, 10.0, 1.0), ["EER: 0%", "minDCF(p-target=0.01): 0.0000"], "0.01 c_miss:10.0 c_fa:1"),
])
def test_operating_points_are_printed(point, kaldi, threed):
    scores, is_target = np.array([1.0, 2.0, 3.0, 0.0]), np.array([False, True, True, False])
    assert print_as("kaldi", scores, is_target, point).text.splitlines() == kaldi
    assert print_as("3dspeaker", scores, is_target, point, "list.score").text == (
        f"Results of list is:\nEER = 0.0000\nminDCF (p_target:{threed}) = 0.0000\n")


@pytest.mark.parametrize("name, scores, is_target, point, told", [
    ("espnet", [1, 0], [1, 0], (0.01, 1.0, 1.0), "the script of espnet has its operating point built in"),
    ("kaldi", [1, 0], [1, 1], None, "want one a trial, of both classes"),
    ("kaldi", [1, 0], [1], None, "want one a trial, of both classes"),
    ("kaldi", [1, math.nan], [1, 0], None, "a score is not finite"),
    ("wespeaker", [0, 1], [1, 0], None, "where the script ends in an IndexError and prints nothing"),
])
def test_what_is_refused(name, scores, is_target, point, told):
    with pytest.raises(ValueError, match=told):
        print_as(name, np.array(scores), np.array(is_target), point)
