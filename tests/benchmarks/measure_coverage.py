"""How often 95 % intervals of EER and minDCF hold the truth, on simulated scores: the evidence behind
`speakerkit/scoring/intervals.py`. Some minutes to an hour, by --draws; nothing here is a test.

A score is the sum of normal effects: of the enrolment's speaker, of the test's speaker, of the pair, of the
test utterance and of the trial; a target's has a mean and an effect of its own speaker. So both classes are
normal and the population's EER and minDCF are known. `independent` trials have no effect but their own.
usage: measure_coverage.py [--draws N] [--replicates N] [--null]
"""

import argparse
import functools
import time
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from speakerkit.scoring.bootstrap import count_by_speaker
from speakerkit.scoring.intervals import compare_systems, confidence_intervals
from speakerkit.scoring.metrics import dcf_weights

STATISTICS = (None, (0.05, 1.0, 1.0), (0.01, 1.0, 1.0), (0.01, 10.0, 1.0))
NAMES = ("EER", "minDCF(0.05)", "minDCF(0.01)", "minDCF(0.01, 10, 1)")


@dataclass(frozen=True)
class Effects:
    """Standard deviations, and the mean of targets above nontargets."""

    mean: float
    target_speaker: float
    enrol_speaker: float
    test_speaker: float
    pair: float
    utterance: float
    trial: float

    def truth(self) -> list[float]:
        """The population's value of each statistic."""
        common = self.enrol_speaker**2 + self.test_speaker**2 + self.utterance**2 + self.trial**2
        of_target, of_nontarget = np.sqrt([common + self.target_speaker**2, common + self.pair**2])

        def rates(threshold):
            return ndtr((threshold - self.mean) / of_target), ndtr(-threshold / of_nontarget)

        crossing = brentq(lambda x: rates(x)[0] - rates(x)[1], -20, self.mean + 20)
        p_miss, p_fa = rates(np.linspace(-5, self.mean + 8, 20001))
        weights = [dcf_weights(*point) for point in STATISTICS[1:]]
        return [float(rates(crossing)[1]), *[min(w, float((w * p_miss + v * p_fa).min())) for w, v in weights]]


EFFECTS = {"independent": Effects(3, 0, 0, 0, 0, 0, 1), "usual": Effects(3, 0.5, 0.3, 0.3, 0.3, 0.3, 0.7),
           "strong": Effects(3.5, 1, 0.6, 0.6, 0.3, 0.5, 0.5)}


@dataclass(frozen=True)
class Design:
    """Which trials there are: every enrolment against every test, or as many nontargets as targets at random."""

    num_speakers: int
    num_tests: int       # a speaker; on the average where they are uneven
    is_sparse: bool = False
    is_uneven: bool = False

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Enrolment's speaker, test's speaker and test utterance of each trial."""
        speakers = np.arange(self.num_speakers)
        counts = generator.geometric(1 / self.num_tests, self.num_speakers) if self.is_uneven else self.num_tests
        owner = np.repeat(speakers, counts)
        if not self.is_sparse:
            return np.repeat(speakers, len(owner)), np.tile(owner, len(speakers)), np.tile(np.arange(len(owner)),
                                                                                           len(speakers))
        utterance = np.concatenate([np.arange(len(owner)), generator.integers(0, len(owner), len(owner))])
        test = owner[utterance]
        other = (test + generator.integers(1, self.num_speakers, len(test))) % self.num_speakers
        is_target = np.arange(len(test)) < len(owner)
        return np.where(is_target, test, other), test, utterance


def draw_scores(effects: Effects, enrol: np.ndarray, test: np.ndarray, utterance: np.ndarray,
                generator: np.random.Generator) -> np.ndarray:
    """(num_trials,) scores."""
    num_speakers = int(max(enrol.max(), test.max())) + 1
    of_enrol, of_test, of_target = (scale * generator.standard_normal(num_speakers) for scale in (
        effects.enrol_speaker, effects.test_speaker, effects.target_speaker))
    of_pair = effects.pair * generator.standard_normal((num_speakers, num_speakers))
    of_utterance = effects.utterance * generator.standard_normal(int(utterance.max()) + 1)
    of_class = np.where(enrol == test, effects.mean + of_target[enrol], of_pair[enrol, test])
    return (of_enrol[enrol] + of_test[test] + of_utterance[utterance] + of_class
            + effects.trial * generator.standard_normal(len(enrol)))


def measure_coverage(effects: Effects, design: Design, num_draws: int, num_replicates: int,
                     seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(num_statistics,) share of draws whose interval holds the truth, and share of intervals with a doubt."""
    generator, truth = np.random.default_rng(seed), effects.truth()
    held, doubted = np.zeros(len(STATISTICS)), np.zeros(len(STATISTICS))
    for _ in range(num_draws):
        enrol, test, utterance = design.draw(generator)
        scores = draw_scores(effects, enrol, test, utterance, generator)
        counted = count_by_speaker(scores, enrol == test, enrol, test)
        found = confidence_intervals(counted, STATISTICS, num_replicates, generator)
        held += [one.low is not None and one.low <= true <= one.high for one, true in zip(found, truth, strict=True)]
        doubted += [one.doubt is not None for one in found]
    return held / num_draws, doubted / num_draws


def measure_false_alarms(effects: Effects, design: Design, num_draws: int, num_replicates: int,
                         seed: int = 1) -> np.ndarray:
    """(num_statistics,) how often two systems that are equally good are told apart at 5 %.

    Their scores are half of common, half of own effects, scaled to the same spread.
    """
    generator, found = np.random.default_rng(seed), np.zeros(len(STATISTICS))
    for _ in range(num_draws):
        enrol, test, utterance = design.draw(generator)
        draw = functools.partial(draw_scores, effects, enrol, test, utterance, generator)
        shift = np.where(enrol == test, effects.mean, 0.0)
        common, *own = (draw() - shift for _ in range(3))
        systems = [count_by_speaker((common + part) / np.sqrt(2) + shift, enrol == test, enrol, test) for part in own]
        found += [one is not None and one.p_value < 0.05
                  for one in compare_systems(*systems, STATISTICS, num_replicates, generator)]
    return found / num_draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--null", action="store_true", help="how often equal systems are told apart, instead")
    args = parser.parse_args()
    designs = [Design(40, 5), Design(40, 20), Design(100, 5), Design(200, 3), Design(60, 5, is_uneven=True),
               Design(40, 100, is_sparse=True)]
    print("| effects | speakers | tests a speaker | design | " + " | ".join(NAMES) + " | seconds |")
    print("|---" * (5 + len(NAMES)) + "|")
    for design in designs:
        for name, effects in EFFECTS.items():
            began = time.perf_counter()
            if args.null:
                cells = [f"{100 * share:.1f} %" for share in
                         measure_false_alarms(effects, design, args.draws, args.replicates)]
            else:
                shares = measure_coverage(effects, design, args.draws, args.replicates)
                cells = [f"{100 * held:.1f} % ({100 * doubted:.0f} % doubted)" for held, doubted in zip(*shares,
                                                                                                     strict=True)]
            kind = "as many nontargets as targets" if design.is_sparse else "all pairs"
            print(f"| {name} | {design.num_speakers} | {design.num_tests}{', uneven' if design.is_uneven else ''} "
                  f"| {kind} | " + " | ".join(cells) + f" | {time.perf_counter() - began:.0f} |", flush=True)


if __name__ == "__main__":
    main()
