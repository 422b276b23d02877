"""Two systems on the same trials: their error rates side by side, and whether the difference can be chance."""

import json
import logging
import os
from dataclasses import asdict, dataclass

import numpy as np

from speakerkit.errors import DataError
from speakerkit.io import files
from speakerkit.io.score_lines import read_score_lines
from speakerkit.io.scored_trials import ScoredTrials, match_scores
from speakerkit.jobs import scoring
from speakerkit.jobs.cards import LEVEL, POINTS
from speakerkit.jobs.scoring import OperatingPoint
from speakerkit.jobs.trial_speakers import find_speakers
from speakerkit.scoring import intervals
from speakerkit.scoring.bootstrap import count_by_speaker
from speakerkit.scoring.metrics import compute_det, eer_of_det, min_dcf_of_det

log = logging.getLogger(__name__)

_MOST_CARD_BYTES = 1 << 20


@dataclass(frozen=True)
class ComparisonOptions:
    """How two systems are compared.

    Attributes:
        trials: the labelled list; None: that of the cards, or the labels of the first score file.
        utt2spk: '<id> <spk-id>' lines; None: speakers by the ids.
        num_replicates: draws of speakers, at least 20.
        seed: of the draws.
        reading: how files are read, and an operating point beside the cards' four.
    """
    trials: str | None = None
    utt2spk: str | None = None
    num_replicates: int = 1000
    seed: int = 1
    reading: scoring.ScoringOptions = scoring.ScoringOptions()


@dataclass(frozen=True)
class _System:
    """One side, as it was named."""
    name: str
    scores: str
    trials: str | None = None
    trials_sha256: str | None = None
    scores_sha256: str | None = None


def compare_results(a: str, b: str, options: ComparisonOptions, report: dict) -> None:
    """EER and minDCF of two systems and a paired bootstrap test of each difference, into the report.

    Args:
        a, b: score files, or cards (`*.json`), whose score files and trials are read and held against their
            SHA-256.
        options: how.
        report: filled with `systems`, `comparisons` (a row a metric: both values, B - A, its interval, p_value)
            and what they rest on.

    Raises:
        DataError, DataErrors: files that can't be read, changed since the card, of different trials; too few
            speakers.
        ConfigError: no labelled trials are named.
    """
    systems = _open_system(a), _open_system(b)
    trials_path = _choose_trials(systems, options)
    scored = [_read(systems[0], trials_path, None, options)]
    scored.append(_read(systems[1], trials_path, scored[0], options))
    trials = scored[0].trials
    speakers = find_speakers(trials, options.utt2spk)
    points = [*POINTS, *([] if options.reading.point in POINTS else [options.reading.point])]
    counted = [count_by_speaker(one.scores, trials.is_target, *speakers.of_trials(trials)) for one in scored]
    try:
        found = intervals.compare_systems(*counted, [None, *points], options.num_replicates,
                                          np.random.default_rng(options.seed), LEVEL)
    except ValueError as error:
        raise DataError(trials.path, str(error)) from None
    values = [_values(one, points) for one in scored]
    report.update(systems=[{"name": system.name, "scores": one.scores_path, "scores_sha256": one.scores_sha256}
                           for system, one in zip(systems, scored, strict=True)],
                  num_trials=len(trials), num_target=int(np.count_nonzero(trials.is_target)),
                  num_nontarget=int(np.count_nonzero(~trials.is_target)), num_speakers=len(speakers.names),
                  num_with_targets=counted[0].num_target_speakers, num_replicates=options.num_replicates,
                  seed=options.seed, level=LEVEL,
                  comparisons=[_row(*row) for row in zip([None, *points], *values, found, strict=True)],
                  protocol={"trials": trials.path, "trials_sha256": trials.sha256, "speakers": speakers.source})


def _open_system(path: str) -> _System:
    """A score file, or the card that names one."""
    if not path.endswith(".json"):
        return _System(os.path.basename(path), path)
    try:
        with open(path, "rb") as stream:
            card = json.loads(stream.read(_MOST_CARD_BYTES))
        protocol = card["protocol"]
        facts = [protocol[name] for name in ("scores", "trials", "trials_sha256", "scores_sha256")]
        name = card["model"]["name"] or os.path.basename(path).removesuffix(".json")
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise DataError(path, f"is no card ({type(error).__name__}: {error}); want what --card writes, "
                              "or a score file") from None
    if not all(isinstance(fact, str) for fact in facts):
        raise DataError(path, "is no card: its protocol names no files; want what --card writes, or a score file")
    return _System(name, *facts)


def _choose_trials(systems: tuple[_System, _System], options: ComparisonOptions) -> str | None:
    first, second = systems
    if first.trials_sha256 and second.trials_sha256 and first.trials_sha256 != second.trials_sha256:
        raise DataError(second.trials, f"is another list ({second.trials_sha256[:8]}) than {first.trials} "
                                       f"({first.trials_sha256[:8]}): only results on the same trials compare")
    if options.trials is not None:
        return options.trials
    # A list that is the score file itself has its labels there.
    return next((system.trials for system in systems if system.trials and system.trials != system.scores), None)


def _read(system: _System, trials_path: str | None, first: ScoredTrials | None,
          options: ComparisonOptions) -> ScoredTrials:
    """Scores of the first system with their trials, or of the second in the order of the first's trials."""
    if system.scores_sha256 and files.sha256_file(system.scores) != system.scores_sha256:
        raise DataError(system.scores, "has changed since its card was written")
    if first is None:
        scored = scoring.read_scored_trials(trials_path, system.scores, options.reading)
    else:
        lines = read_score_lines(system.scores, options.reading.score_format)
        scored = ScoredTrials(first.trials, match_scores(first.trials, lines), lines)
    if system.trials_sha256 and scored.trials.sha256 != system.trials_sha256:
        raise DataError(scored.trials.path, f"is not the list of {system.name}'s card, or has changed since")
    return scored


def _values(scored: ScoredTrials, points: list[OperatingPoint]) -> list[float]:
    det = compute_det(scored.scores[scored.trials.is_target], scored.scores[~scored.trials.is_target])
    return [eer_of_det(det)[0], *[min_dcf_of_det(det, *point)[0] for point in points]]


def _row(point: OperatingPoint | None, a: float, b: float, found: intervals.Difference | None) -> dict[str, object]:
    """One metric, in percent where it is the EER."""
    unit = 100 if point is None else 1
    metric = "eer_percent" if point is None else "min_dcf"
    row = {"metric": metric, **dict.fromkeys(OperatingPoint._fields), "a": unit * a, "b": unit * b,
           "difference": unit * (b - a), "low": None, "high": None, "p_value": None}
    if point is not None:
        row.update(point._asdict())
    if found is not None:
        row.update({name: value if name == "p_value" else unit * value for name, value in asdict(found).items()
                    if name != "value"})
    return row


def comparison_in_markdown(report: dict) -> str:
    """The table, and below it what it says of which trials."""
    names = [system["name"] for system in report["systems"]]
    if names[0] == names[1]:
        names = [system["scores"] for system in report["systems"]]
    rows = [["metric", f"A: {names[0]}", f"B: {names[1]}", "B - A", f"{100 * report['level']:g} % interval", "p"]]
    for row in report["comparisons"]:
        digits = 2 if row["metric"] == "eer_percent" else 4
        name = "EER %" if row["metric"] == "eer_percent" else f"minDCF({row['p_target']:g}, {row['c_miss']:g}, " \
                                                              f"{row['c_fa']:g})"
        interval = "" if row["low"] is None else f"{row['low']:+.{digits}f} to {row['high']:+.{digits}f}"
        chance = "" if row["p_value"] is None else "< 0.0001" if row["p_value"] < 1e-4 else f"{row['p_value']:.4f}"
        rows.append([name, f"{row['a']:.{digits}f}", f"{row['b']:.{digits}f}", f"{row['difference']:+.{digits}f}",
                     interval, chance])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    told = (f"{report['num_target']:,} target and {report['num_nontarget']:,} nontarget trials of "
            f"{report['protocol']['trials']} ({report['protocol']['trials_sha256'][:8]}), {report['num_speakers']:,} "
            f"speakers, {report['num_with_targets']:,} with targets. B - A below 0: B is better. p: two-sided, of "
            f"equal systems; the same {report['num_replicates']:,} draws of speakers for both, seed {report['seed']}.")
    return "\n".join([*lines, "", told, ""])
