"""Result cards: one JSON and one Markdown file that say what was measured, on what, and how sure it is."""

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from speakerkit import __version__
from speakerkit.errors import ConfigError, DataError
from speakerkit.io import files
from speakerkit.io.bad_recordings import count_reasons
from speakerkit.io.files import Manifest
from speakerkit.io.scored_trials import ScoredTrials
from speakerkit.jobs.calibrating import read_calibration
from speakerkit.jobs.card_page import card_in_markdown
from speakerkit.jobs.scoring import FEW_ERRORS, OperatingPoint, errors_at_eer
from speakerkit.jobs.trial_speakers import TrialSpeakers, find_speakers
from speakerkit.scoring import intervals
from speakerkit.scoring.bootstrap import count_by_speaker
from speakerkit.scoring.calibration import (
    Calibration,
    bayes_threshold,
    compute_actual_dcf,
    compute_cllr,
    min_cllr_of_det,
)
from speakerkit.scoring.metrics import Det, compute_det, eer_of_det, min_dcf_of_det

log = logging.getLogger(__name__)

SCHEMA = 1
POINTS = (OperatingPoint(0.01, 1.0, 1.0), OperatingPoint(0.05, 1.0, 1.0), OperatingPoint(0.001, 1.0, 1.0),
          OperatingPoint(0.01, 10.0, 1.0))  # the last is the published reference system's
LEVEL = 0.95


@dataclass(frozen=True)
class CardOptions:
    """What goes on a card and where it goes.

    Attributes:
        prefix: `<prefix>.json` and `<prefix>.md`.
        name: what the protocol is called, e.g. "CN-Celeb.E, full list"; None: the trial list's file name.
        utt2spk: '<id> <spk-id>' lines; None: speakers by the ids.
        num_replicates: draws of speakers for the intervals; 0: none.
        seed: of the draws.
        model: the model of the scores, for its training data, threshold and calibration; None: as far as known.
        calibration: a file of `calibrate-scores`; None: the model's, if it has one.
        threshold: the score at which the actual DCF is taken; None: the Bayes thresholds of calibrated scores,
            else the model's threshold, else there is no actual DCF.
        overwrite: replace a card that was made from something else.
    """
    prefix: str
    name: str | None = None
    utt2spk: str | None = None
    num_replicates: int = 1000
    seed: int = 1
    model: str | None = None
    calibration: str | None = None
    threshold: float | None = None
    overwrite: bool = False

    @property
    def paths(self) -> tuple[Path, Path]:
        """The JSON file and the page."""
        return Path(f"{self.prefix}.json"), Path(f"{self.prefix}.md")


@dataclass(frozen=True)
class _Sources:
    """What a card takes from elsewhere, read and checked."""
    model: dict[str, object]  # name, sha256, training_data, domain; empty where no model was named
    calibration: Calibration | None
    calibration_source: str | None
    threshold: float | None
    threshold_source: str | None
    hashes: dict[str, str]


def check_options(options: CardOptions, inputs: tuple[str | None, ...]) -> None:
    """Find what is wrong with a card's options before hours of work.

    Args:
        options: of the card.
        inputs: files that the command reads and writes otherwise.

    Raises:
        ConfigError: the card lies over one of them. MachineError: its place can't be written.
        DataError: a model, a calibration or a table that can't be read.
    """
    if not os.path.basename(options.prefix):
        raise ConfigError(f"--card '{options.prefix}' names no file; want a prefix such as exp/card")
    for path in options.paths:
        if os.path.realpath(path) in {os.path.realpath(other) for other in (*inputs, options.utt2spk,
                                                                            options.calibration) if other}:
            raise ConfigError(f"--card {options.prefix} would write over {path}")
        files.check_writable(path)
    _read_sources(options)


def write_card(scored: ScoredTrials, protocol: Mapping[str, object], options: CardOptions,
               left_out: Mapping[str, object] | None = None) -> None:
    """Measure scored trials, write both files with a manifest; nothing to do where equal ones lie there.

    Args:
        scored: the trials and their scores.
        protocol: as `jobs.scoring.make_protocol` makes it: enrolment, scores, model as far as known.
        options: what goes on it.
        left_out: `num_trials`, `num_recordings` and `reasons` (code -> count) of what isn't among the trials;
            None: what the bad list beside the embeddings says, if there is one.

    Raises:
        DataError: trials whose ids don't tell speakers that agree with the labels, too few speakers, a model
            that isn't that of the scores. ConfigError: another card lies there and not `overwrite`.
    """
    json_path, page_path = options.paths
    sources = _read_sources(options)
    _refuse_another_model(protocol, sources, options)
    inputs = {"trials": scored.trials.sha256, "scores": scored.scores_sha256, **sources.hashes}
    if options.utt2spk is not None:
        inputs["utt2spk"] = files.sha256_file(options.utt2spk)
    with files.output_lock(json_path):
        made_with = {**asdict(options), "point": [protocol[name] for name in OperatingPoint._fields],
                     "protocol": dict(protocol), "left_out": left_out}
        for name in ("prefix", "overwrite"):
            del made_with[name]
        manifest = Manifest("card", made_with, inputs, __version__)
        if not files.prepare_output(json_path, manifest, options.overwrite, [page_path]):
            log.info("%s: nothing to do, the card is up to date", json_path)
            return
        card = make_card(scored, protocol, options, sources, left_out)
        files.write_text(page_path, card_in_markdown(card))
        files.write_json(json_path, card)
        files.write_manifest(json_path, manifest, {}, [page_path])
    log.info("%s, %s: the result's card", json_path, page_path)


def make_card(scored: ScoredTrials, protocol: Mapping[str, object], options: CardOptions, sources: _Sources,
              left_out: Mapping[str, object] | None = None) -> dict[str, object]:
    """All that a card says, as JSON holds it: thresholds of infinity and what isn't known are None."""
    trials, scores = scored.trials, scored.scores
    point = OperatingPoint(*(protocol[name] for name in OperatingPoint._fields))
    points = [*POINTS, *([] if point in POINTS else [point])]
    det = compute_det(scores[trials.is_target], scores[~trials.is_target])
    card: dict[str, object] = {"card": SCHEMA, "version": __version__, "protocol": _protocol(scored, protocol, options),
                               "excluded": _excluded(protocol, left_out), "model": _model(protocol, sources)}
    card.update(_eer(det, protocol))
    card["dcf"] = [_dcf(scored, det, one, sources) for one in points]
    card.update(_calibrated(scored, det, sources))
    card.update(dict.fromkeys(("speakers", "bootstrap")))
    if options.num_replicates:
        speakers = find_speakers(trials, options.utt2spk)
        log.info("%s: %s speakers, by %s", trials.path, f"{len(speakers.names):,}", speakers.source)
        _add_intervals(card, scored, speakers, points, options)
    return card


def _read_sources(options: CardOptions) -> _Sources:
    model, hashes, info = {}, {}, None
    if options.model is not None:
        from speakerkit.models import find, model_header

        path = find.find_model(options.model)
        info = model_header.read_info(path)
        hashes["model"] = files.sha256_file(path)
        model = {"name": info.name, "sha256": hashes["model"], "training_data": info.training_data or None,
                 "domain": info.domain or None}
    calibration, calibration_source = None, None
    if options.calibration is not None:
        calibration, calibration_source = read_calibration(options.calibration), options.calibration
        hashes["calibration"] = files.sha256_file(options.calibration)
    elif info is not None and info.calibration is not None:
        try:
            calibration, calibration_source = Calibration.from_dict(info.calibration), f"model {info.name}"
        except ValueError as error:
            raise DataError(options.model, str(error)) from None
    threshold, source = options.threshold, "stated"
    if threshold is None and calibration is None and info is not None and info.threshold is not None:
        threshold, source = info.threshold, f"model {info.name}: {info.threshold_trials or 'it does not say whence'}"
    return _Sources(model, calibration, calibration_source, threshold, None if threshold is None else source, hashes)


def _refuse_another_model(protocol: Mapping[str, object], sources: _Sources, options: CardOptions) -> None:
    of_scores, named = protocol.get("model_sha256"), sources.model.get("sha256")
    if of_scores and named and of_scores != named:
        raise DataError(options.model, f"is model {sources.model['name']} ({named[:8]}), but the scores are of "
                                       f"{protocol.get('model')} ({of_scores[:8]})")


def _protocol(scored: ScoredTrials, protocol: Mapping[str, object], options: CardOptions) -> dict[str, object]:
    trials = scored.trials
    facts = {"name": options.name or os.path.basename(trials.path), "trials": trials.path,
             "trials_sha256": trials.sha256, "num_trials": len(trials),
             "num_target": int(np.count_nonzero(trials.is_target)),
             "num_nontarget": int(np.count_nonzero(~trials.is_target)), "num_enrolments": len(trials.enrol_ids),
             "num_tests": len(trials.test_ids), "num_repeated": trials.num_repeated,
             "enrolment": protocol["enrolment"], "scores": scored.scores_path, "scores_sha256": scored.scores_sha256}
    others = {name: value for name, value in protocol.items()
              if name not in facts and name not in ("model", "model_sha256", "precision", *OperatingPoint._fields)}
    return facts | others


def _excluded(protocol: Mapping[str, object], left_out: Mapping[str, object] | None) -> dict[str, object]:
    if left_out is not None:
        return dict(left_out)
    reasons, lists = {}, []
    for path in {protocol.get("embeddings"), protocol.get("enrol_embeddings")} - {None}:
        for reason, count in (count_reasons(path) or {}).items():
            reasons[reason] = reasons.get(reason, 0) + count
            lists.append(f"{path}.bad.tsv")
    # Scoring refuses ids without an embedding: whatever was left out was left out of the list itself.
    return {"num_trials": 0, "num_recordings": sum(reasons.values()) if protocol.get("embeddings") else None,
            "reasons": reasons, "bad_lists": sorted(set(lists))}


def _model(protocol: Mapping[str, object], sources: _Sources) -> dict[str, object]:
    known = {"name": protocol.get("model"), "sha256": protocol.get("model_sha256"),
             "precision": protocol.get("precision"), "training_data": None, "domain": None}
    return known | sources.model


def _eer(det: Det, protocol: Mapping[str, object]) -> dict[str, object]:
    eer, threshold = eer_of_det(det)
    counts = {"eer_percent": 100 * eer, **{name: protocol[name] for name in ("num_target", "num_nontarget")}}
    num_errors = errors_at_eer(counts)
    note = (f"it rests on {num_errors:.0f} errors of the rarer kind; below {FEW_ERRORS} it is likely off by more than "
            "30 %") if num_errors < FEW_ERRORS else None
    return {"eer_percent": 100 * eer, "eer_threshold": _finite(threshold), "eer_percent_low": None,
            "eer_percent_high": None, "eer_doubt": None, "eer_note": note}


def _dcf(scored: ScoredTrials, det: Det, point: OperatingPoint, sources: _Sources) -> dict[str, object]:
    least, threshold = min_dcf_of_det(det, *point)
    actual, actual_threshold = None, None
    if sources.threshold is not None:
        actual_threshold = sources.threshold
    elif sources.calibration is not None:
        actual_threshold = (bayes_threshold(*point) - sources.calibration.offset) / sources.calibration.scale
    if actual_threshold is not None:
        actual = compute_actual_dcf(scored.scores, scored.trials.is_target, actual_threshold, *point)
    return {**point._asdict(), "min_dcf": least, "min_dcf_threshold": _finite(threshold), "min_dcf_low": None,
            "min_dcf_high": None, "min_dcf_doubt": None, "actual_dcf": actual, "actual_dcf_threshold": actual_threshold}


def _calibrated(scored: ScoredTrials, det: Det, sources: _Sources) -> dict[str, object]:
    calibration, cllr, source = sources.calibration, None, sources.threshold_source
    if calibration is not None:
        cllr = compute_cllr(calibration.to_llr(scored.scores), scored.trials.is_target)
        source = source or f"the Bayes threshold of scores calibrated by {sources.calibration_source}"
    return {"cllr": cllr, "min_cllr": min_cllr_of_det(det), "actual_dcf_threshold_source": source,
            "calibration": None if calibration is None else {**calibration.to_dict(),
                                                             "source": sources.calibration_source}}


def _add_intervals(card: dict[str, object], scored: ScoredTrials, speakers: TrialSpeakers,
                   points: list[OperatingPoint], options: CardOptions) -> None:
    counted = count_by_speaker(scored.scores, scored.trials.is_target, *speakers.of_trials(scored.trials))
    card["speakers"] = {"num_speakers": len(speakers.names), "num_with_targets": counted.num_target_speakers,
                        "source": speakers.source}
    try:
        found = intervals.confidence_intervals(counted, [None, *points], options.num_replicates,
                                               np.random.default_rng(options.seed), LEVEL)
    except ValueError as error:
        log.warning("%s: no confidence intervals: %s", scored.trials.path, error)
        card["bootstrap"] = {"why_none": str(error)}
        return
    card["bootstrap"] = {"level": LEVEL, "num_replicates": options.num_replicates, "seed": options.seed,
                         "method": "speakers drawn again on both sides of a trial; logit scale, Student's t"}
    eer, *costs = found
    card.update(eer_percent_low=_percent(eer.low), eer_percent_high=_percent(eer.high), eer_doubt=eer.doubt)
    for row, interval in zip(card["dcf"], costs, strict=True):
        row.update(min_dcf_low=interval.low, min_dcf_high=interval.high, min_dcf_doubt=interval.doubt)


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _finite(threshold: float) -> float | None:
    return threshold if math.isfinite(threshold) else None
