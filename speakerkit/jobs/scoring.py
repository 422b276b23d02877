"""Trials and embeddings to scores, scores to error rates, each result with its protocol."""

import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np

from speakerkit import __version__
from speakerkit.errors import ConfigError
from speakerkit.io import files, scored_trials
from speakerkit.io.files import Manifest
from speakerkit.io.scored_trials import ScoredTrials, refuse_one_class, why_no_metrics
from speakerkit.io.scores import write_scores
from speakerkit.io.spooled import Spooled
from speakerkit.io.trials import Trials, read_trials
from speakerkit.jobs.embedding_set import (
    EmbeddingSet,
    average_enrolments,
    embeddings_of_trials,
    load_embeddings,
    subtract_mean,
)
from speakerkit.scoring.cosine import cosine_scores
from speakerkit.scoring.metrics import compute_metrics

log = logging.getLogger(__name__)

FEW_ERRORS = 30  # a rate that rests on fewer is likely off by more than 30 % (Doddington's rule of 30)
ONE_EMBEDDING = "one embedding"
MEAN_OF_EMBEDDINGS = "mean of embeddings"

_TEXT_FORMATS = {"num_target": "d", "num_nontarget": "d", "eer_percent": ".4f", "eer_threshold": ".4f",
                 "min_dcf": ".4f", "min_dcf_threshold": ".4f", "dcf_p_target": "g", "dcf_c_miss": "g", "dcf_c_fa": "g"}
_MODEL_FACTS = ("model", "model_sha256", "precision")


class OperatingPoint(NamedTuple):
    """What minDCF weighs errors by: the prior of a target trial and the cost of either error."""
    p_target: float = 0.01
    c_miss: float = 1.0
    c_fa: float = 1.0


@dataclass(frozen=True)
class ScoringOptions:
    """How trials are read, enrolments made and errors weighed.

    Attributes:
        enrol_embeddings: embeddings of the enrolments where they lie elsewhere.
        enrol_map: '<enrol-id> <utt-id>...': an enrolment is the plain mean of these embeddings.
        mean_of: embeddings whose mean is taken from every embedding first.
        label_first: trials are '<label> <enrol-id> <test-id>'.
        point: operating point of minDCF.
        score_format: how the lines of a score file are, a key of `io.score_lines.SCORE_FORMATS`; None: as they look.
    """
    enrol_embeddings: str | None = None
    enrol_map: str | None = None
    label_first: bool = False
    point: OperatingPoint = OperatingPoint()
    mean_of: str | None = None
    score_format: str | None = None


def format_metrics(metrics: Mapping[str, object]) -> str:
    """Metrics as text, a name and a value a line; a threshold of infinity (None in JSON) is `inf`."""
    return "".join(f"{name} {math.inf if metrics[name] is None else metrics[name]:{text_format}}\n"
                   for name, text_format in _TEXT_FORMATS.items() if name in metrics)


def score_trials(trials_path: str | Spooled, embeddings_path: str, options: ScoringOptions, report: dict,
                 stream: BinaryIO) -> None:
    """Write the cosine of each trial to a stream such as standard output.

    Args:
        trials_path: '<enrol-id> <test-id> [target|nontarget]' lines; `-` is standard input.
        embeddings_path: archive or scp with the embedding of every id.
        options: how.
        report: filled with counts, the protocol and, where trials have labels of both classes, the metrics.
        stream: takes the lines of `write_scores`, after all checks.

    Raises:
        DataError, DataErrors: a faulty list, an id without an embedding, embeddings of two models.
        BrokenPipeError: nobody reads the stream any more.
    """
    _score_and_write(*_read_inputs(trials_path, embeddings_path, options), options, report, stream)


def score_trials_to_file(trials_path: str | Spooled, embeddings_path: str, options: ScoringOptions, report: dict,
                         output: str, overwrite: bool) -> None:
    """`score_trials` into a file with its manifest; nothing to do where an equal manifest lies there.

    Raises:
        ConfigError: `output` is one of the inputs, or was made from other options or inputs and not `overwrite`.
        MachineError: the place can't be written.
    """
    refuse_output_over_input(output, (trials_path, embeddings_path), options)
    files.check_writable(output)
    with files.output_lock(output):
        trials, enrol, test = _read_inputs(trials_path, embeddings_path, options)
        manifest = scores_manifest(trials.path, trials.sha256, (enrol, test), options)
        if not files.prepare_output(output, manifest, overwrite):
            report.update(files.read_manifest(output)["results"])
            log.info("%s: nothing to do, it is up to date", output)
            return
        sha256 = _score_and_write(trials, enrol, test, options, report, output)
        files.write_manifest(output, manifest, report, sha256=sha256)


def _read_inputs(trials_path: str | Spooled, embeddings_path: str,
                 options: ScoringOptions) -> tuple[Trials, EmbeddingSet, EmbeddingSet]:
    with ThreadPoolExecutor(1) as pool:  # parsing leaves the interpreter's lock alone
        loading = pool.submit(load_sides, embeddings_path, options)
        trials = read_trials(trials_path, options.label_first)
        return trials, *loading.result()


def load_sides(embeddings_path: str, options: ScoringOptions) -> tuple[EmbeddingSet, EmbeddingSet]:
    """Embeddings of the enrolments and of the tests, averaged and centred as the options say."""
    test = load_embeddings(embeddings_path)
    enrol = load_embeddings(options.enrol_embeddings) if options.enrol_embeddings else test
    if options.mean_of:
        mean_of, same = load_embeddings(options.mean_of), enrol is test
        test = subtract_mean(test, mean_of)
        enrol = test if same else subtract_mean(enrol, mean_of)
    return (average_enrolments(options.enrol_map, enrol) if options.enrol_map else enrol), test


def refuse_output_over_input(output: str, inputs: Iterable[str | Spooled], options: ScoringOptions) -> None:
    """ConfigError where the output is one of the inputs."""
    others = (options.enrol_embeddings, options.enrol_map, options.mean_of)
    files.refuse_input_as_output("--output", output, (*inputs, *others))


def scores_manifest(trials_path: str, trials_sha256: str, sides: Iterable[EmbeddingSet],
                    options: ScoringOptions) -> Manifest:
    """What a file of scores is made from; the same whether the list was streamed or not."""
    inputs = {trials_path: trials_sha256}
    inputs |= {path: files.sha256_file(path) for path in {path for side in sides for path in side.sources}}
    made_with = {"enrol_embeddings": options.enrol_embeddings, "enrol_map": options.enrol_map,
                 "mean_of": options.mean_of, "label_first": options.label_first, **options.point._asdict()}
    return Manifest("score-trials", made_with, inputs, __version__)


def _score_and_write(trials: Trials, enrol: EmbeddingSet, test: EmbeddingSet, options: ScoringOptions, report: dict,
                     path_or_stream: str | BinaryIO) -> str:
    """All scores of a list, written; counts, metrics and protocol go to the report. Returns the written SHA-256."""
    scores = score_embeddings(trials, enrol, test)
    with ThreadPoolExecutor(1) as pool:
        describing = pool.submit(_describe, trials, scores, enrol, test, options, report)
        sha256 = write_scores(path_or_stream, trials, scores)
        describing.result()
    return sha256


def _describe(trials: Trials, scores: np.ndarray, enrol: EmbeddingSet, test: EmbeddingSet, options: ScoringOptions,
              report: dict) -> None:
    report.update(count_trials(trials, enrol.made_of))
    if fault := why_no_metrics(trials):
        log.info("%s: %s, so there are no metrics", trials.path, fault)
    else:
        report.update(measure(trials, scores, options.point))
    report["protocol"] = make_protocol(trials, *how_scored(enrol, test, options))


def how_scored(enrol: EmbeddingSet, test: EmbeddingSet,
               options: ScoringOptions) -> tuple[str, OperatingPoint, dict[str, object]]:
    """(enrolment, operating point, source) of scores, as `make_protocol` takes them."""
    source = {"embeddings": test.path, "enrol_embeddings": options.enrol_embeddings, "enrol_map": options.enrol_map,
              "mean_of": options.mean_of}
    return (MEAN_OF_EMBEDDINGS if options.enrol_map else ONE_EMBEDDING, options.point,
            {**source, **enrol.model, **test.model})


def score_embeddings(trials: Trials, enrol: EmbeddingSet, test: EmbeddingSet) -> np.ndarray:
    """(num_trials,) float32 cosines of a list, all ids checked first; raises as `embeddings_of_trials` does."""
    return cosine_scores(*embeddings_of_trials(trials, enrol, test), trials.enrol_index, trials.test_index)


def count_trials(trials: Trials, made_of: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Counts of a list under their names in --json; what a user should know of is said.

    Args:
        trials: the list.
        made_of: enrol_id -> its utterances, where these are not just itself.
    """
    same = pairs_of_one_recording(trials.enrol_ids, {key: row for row, key in enumerate(trials.test_ids)}, made_of)
    num_same = int(np.count_nonzero(np.isin(trials.pairs(), same))) if len(same) else 0
    return tell_counts(trials.path, len(trials), trials.num_repeated, num_same)


def tell_counts(path: str, num_trials: int, num_repeated: int, num_same: int) -> dict[str, int]:
    """Counts of a list under their names in --json; what a user should know of is said."""
    if num_same:
        log.warning("%s: trials whose test recording is in the enrolment: %s", path, f"{num_same:,}")
    if num_repeated:
        log.warning("%s: trials that are there already, with the same label, and count again: %s", path,
                    f"{num_repeated:,}")
    return {"num_trials": num_trials, "num_repeated": num_repeated, "num_same_recording": num_same}


def pairs_of_one_recording(enrol_ids: Sequence[str], test_rows: Mapping[str, int],
                           made_of: Mapping[str, Sequence[str]]) -> np.ndarray:
    """The pairs, enrolment * number of tests + test, whose test recording is in the enrolment; ascending int64."""
    same = {enrol * len(test_rows) + test_rows[utt_id] for enrol, enrol_id in enumerate(enrol_ids)
            for utt_id in made_of.get(enrol_id, (enrol_id,)) if utt_id in test_rows}
    return np.array(sorted(same), dtype=np.int64)


def measure(trials: Trials, scores: np.ndarray, point: OperatingPoint) -> dict[str, object]:
    """The metrics of scored trials as --json holds them: a threshold of infinity is None.

    Raises:
        DataError: no labels, or trials of one class only.
    """
    refuse_one_class(trials)
    return tell_metrics(compute_metrics(scores, trials.is_target, *point))


def tell_metrics(metrics: Mapping[str, int | float]) -> dict[str, object]:
    """Metrics as --json holds them; said where they rest on few errors."""
    num_errors = errors_at_eer(metrics)
    if num_errors < FEW_ERRORS:
        log.info("the EER rests on %.0f errors of the rarer kind; below %d it is likely off by more than 30 %%",
                 num_errors, FEW_ERRORS)
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def errors_at_eer(metrics: Mapping[str, int | float]) -> float:
    """How many errors of the rarer kind an EER rests on; below FEW_ERRORS it says little."""
    return metrics["eer_percent"] / 100 * min(metrics["num_target"], metrics["num_nontarget"])


def make_protocol(trials: Trials, enrolment: str, point: OperatingPoint,
                  source: Mapping[str, object]) -> dict[str, object]:
    """What a result is a result of.

    Args:
        trials: the list.
        enrolment: ONE_EMBEDDING, MEAN_OF_EMBEDDINGS, or in words how an enrolment came to its embedding.
        point: operating point of minDCF.
        source: where the scores come from: paths; `model`, `model_sha256`, `precision` where known.
    """
    num_target = None if trials.is_target is None else int(np.count_nonzero(trials.is_target))
    return protocol_of_list(trials.path, trials.sha256, len(trials), num_target, enrolment, point, source)


def protocol_of_list(path: str, sha256: str, num_trials: int, num_target: int | None, enrolment: str,
                     point: OperatingPoint, source: Mapping[str, object]) -> dict[str, object]:
    """`make_protocol` of a list that isn't in memory; `num_target` is None where it has no labels."""
    return {"trials": path, "trials_sha256": sha256, "num_trials": num_trials, "num_target": num_target,
            "num_nontarget": None if num_target is None else num_trials - num_target, "enrolment": enrolment,
            **point._asdict(), **dict.fromkeys(_MODEL_FACTS), **source}


def measure_score_file(trials_path: str | Spooled | None, scores_path: str | Spooled, options: ScoringOptions,
                       report: dict) -> ScoredTrials:
    """Metrics of a score file, matched to the trials pair by pair, into the report.

    Args:
        trials_path: labelled trials, `-` is standard input; None: the score file has the labels.
        scores_path: '<enrol-id> <test-id> <score>' lines in any order, or another toolkit's; `-` is standard input.
        options: operating point, order of the trials' fields, format of the scores.
        report: filled with counts, metrics and the protocol.

    Returns:
        what was measured.

    Raises:
        DataError, DataErrors: a faulty list, no labels, one class only, a score that is none,
            scores and trials that differ.
        ConfigError: both are standard input.
    """
    scored = read_scored_trials(trials_path, scores_path, options)
    report.update(count_trials(scored.trials, {}))
    report.update(measure(scored.trials, scored.scores, options.point))
    report["protocol"] = protocol_of_score_file(scored, options.point)
    return scored


def read_scored_trials(trials_path: str | Spooled | None, scores_path: str | Spooled,
                       options: ScoringOptions) -> ScoredTrials:
    """Labelled trials and their scores, matched pair by pair; raises as `measure_score_file`."""
    if trials_path == scores_path == "-":
        raise ConfigError("only one of trials and scores can be standard input")
    return scored_trials.read_scored_trials(trials_path, scores_path, options.label_first, options.score_format)


def protocol_of_score_file(scored: ScoredTrials, point: OperatingPoint) -> dict[str, object]:
    """What the metrics of a score file are metrics of; the model where score-trials' manifest tells it."""
    return make_protocol(scored.trials, *how_score_file_was_made(scored.scores_path, scored.scores_sha256, point))


def how_score_file_was_made(scores_path: str, scores_sha256: str,
                            point: OperatingPoint) -> tuple[str, OperatingPoint, dict[str, object]]:
    """(enrolment, operating point, source) of a score file, as `make_protocol` takes them."""
    made_by = protocol_of_scores(scores_path, scores_sha256)
    source = {"scores": scores_path, "scores_sha256": scores_sha256}
    source |= {fact: made_by.get(fact) for fact in _MODEL_FACTS}
    source |= {fact: made_by[fact] for fact in ("embeddings", "enrol_embeddings", "enrol_map") if made_by.get(fact)}
    return made_by.get("enrolment", "unknown"), point, source


def protocol_of_scores(scores_path: str, scores_sha256: str) -> dict:
    """The protocol that score-trials wrote beside its scores, if these are still its bytes."""
    manifest = files.read_manifest(scores_path)
    written = manifest["outputs"].get(os.path.basename(scores_path), {}) if manifest else {}
    return manifest["results"].get("protocol", {}) if written.get("sha256") == scores_sha256 else {}
