"""Scores to normalised scores: a cohort's statistics, the trials' two sides, a file with its protocol."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from speakerkit import __version__
from speakerkit.errors import ConfigError, DataError
from speakerkit.io import files
from speakerkit.io.files import Manifest
from speakerkit.io.score_lines import read_score_lines
from speakerkit.io.scored_trials import match_scores, why_no_metrics
from speakerkit.io.scores import write_scores
from speakerkit.io.trials import Trials, read_trials
from speakerkit.jobs import scoring
from speakerkit.jobs.embedding_set import (
    EmbeddingSet,
    average_enrolments,
    embeddings_of_trials,
    load_embeddings,
    refuse_another_model,
    subtract_mean,
)
from speakerkit.jobs.scoring import ScoringOptions
from speakerkit.scoring.score_norm import LEAST_DEVIATION, SideStatistics, cohort_statistics, normalise

log = logging.getLogger(__name__)
SIDES = ("both", "enrol", "test")


@dataclass(frozen=True)
class NormalisationOptions:
    """How scores are normalised.

    Attributes:
        top: how many of the highest cosines on the cohort give a side's statistics; 0: all.
        sides: which side's statistics: both (their mean), enrol or test.
        cohort_map: '<spk-id> <utt-id>...': the cohort is the mean embedding of each speaker.
        how: trials are read, enrolments made and errors weighed.
        num_threads: for the statistics.
    """

    top: int = 300
    sides: str = "both"
    cohort_map: str | None = None
    how: ScoringOptions = field(default_factory=ScoringOptions)
    num_threads: int = 1


def normalise_scores(
    trials_path: str,
    scores_path: str,
    embeddings_path: str,
    cohort_path: str,
    options: NormalisationOptions,
    report: dict,
    output: str,
    overwrite: bool,
) -> None:
    """Write a score file's scores normalised by a cohort, in the trials' order, with a manifest beside them.

    Args:
        trials_path: the list; with labels the metrics of the normalised scores go to the report.
        scores_path: '<enrol-id> <test-id> <score>' lines of the same pairs: cosines of the embeddings below.
        embeddings_path: archive or scp with the embedding of every id in the trials.
        cohort_path: archive or scp of embeddings of speakers who are in no trial.
        options: how.
        report: filled with counts, cohort, protocol and metrics.
        output: the file of normalised scores.

    Raises:
        DataError, DataErrors: what the readers refuse; a cohort that is too small, of another model, or one voice.
        ConfigError: ``output`` is an input, or there with other options and not ``overwrite``.
    """
    how = options.how
    given = (trials_path, scores_path, embeddings_path, cohort_path, options.cohort_map, how.enrol_embeddings)
    if any(path and os.path.realpath(output) == os.path.realpath(path) for path in (*given, how.mean_of)):
        raise ConfigError(f"--output {output} is one of the inputs")
    files.check_writable(output)
    with files.output_lock(output):
        with ThreadPoolExecutor(2) as pool:  # parsing leaves the interpreter's lock alone
            reading = pool.submit(read_score_lines, scores_path, how.score_format)
            loading = pool.submit(_load_sets, embeddings_path, cohort_path, options)
            trials = read_trials(trials_path, how.label_first)
            (enrol, test, cohort), lines = loading.result(), reading.result()
        scores, scores_sha256 = match_scores(trials, lines), lines.sha256
        del reading, lines  # as large as the trials
        manifest = _make_manifest(trials, scores_path, scores_sha256, (enrol, test, cohort), options)
        if not files.prepare_output(output, manifest, overwrite):
            report.update(files.read_manifest(output)["results"])
            log.info("%s: nothing to do, it is up to date", output)
            return
        normalised = _normalise(trials, scores, enrol, test, cohort, options)
        del scores
        source = {"scores": scores_path, "scores_sha256": scores_sha256}
        with ThreadPoolExecutor(1) as pool:
            describing = pool.submit(_describe, trials, normalised, cohort, options, report, source)
            sha256 = write_scores(output, trials, normalised)
            describing.result()
        files.write_manifest(output, manifest, report, sha256=sha256)


def _load_sets(
    embeddings_path: str, cohort_path: str, options: NormalisationOptions
) -> tuple[EmbeddingSet, EmbeddingSet, EmbeddingSet]:
    """Embeddings of the enrolments, of the tests and of the cohort, all of one model."""
    enrol, test = scoring.load_sides(embeddings_path, options.how)
    cohort = _load_cohort(cohort_path, options)
    refuse_another_model(test.path, test.model, cohort.path, cohort.model)
    return enrol, test, cohort


def _load_cohort(path: str, options: NormalisationOptions) -> EmbeddingSet:
    cohort, mean_of = load_embeddings(path), options.how.mean_of
    cohort = subtract_mean(cohort, load_embeddings(mean_of)) if mean_of else cohort
    return average_enrolments(options.cohort_map, cohort) if options.cohort_map else cohort


def _normalise(
    trials: Trials,
    scores: np.ndarray,
    enrol: EmbeddingSet,
    test: EmbeddingSet,
    cohort: EmbeddingSet,
    options: NormalisationOptions,
) -> np.ndarray:
    rows = embeddings_of_trials(trials, enrol, test)
    top = options.top or len(cohort.matrix)
    if not 2 <= top <= len(cohort.matrix):
        raise DataError(cohort.path, f"has {len(cohort.matrix)} embeddings; --top {options.top} wants as many or more")
    if cohort.matrix.shape[1] != rows[0].shape[1]:
        values = f"{cohort.matrix.shape[1]} values an embedding, {test.path} has {rows[0].shape[1]}"
        raise DataError(cohort.path, f"has {values}: embeddings of two models?")
    both = (("enrol", trials.enrol_ids, trials.enrol_index), ("test", trials.test_ids, trials.test_index))
    sides = []
    for (side, ids, index), embeddings in zip(both, rows, strict=True):
        if options.sides not in ("both", side):
            continue
        mean, deviation = cohort_statistics(embeddings, cohort.matrix, top, options.num_threads)
        if deviation.min() <= LEAST_DEVIATION:
            worst = ids[int(np.argmin(deviation))]
            message = f"'{worst}' scores the same on {top} of its embeddings: one recording many times over?"
            raise DataError(cohort.path, message)
        sides.append(SideStatistics(index, mean, deviation))
    return normalise(scores, sides)


def _describe(
    trials: Trials,
    scores: np.ndarray,
    cohort: EmbeddingSet,
    options: NormalisationOptions,
    report: dict,
    source: dict,
) -> None:
    """Counts, metrics and protocol of the normalised scores, the cohort with its hash among them."""
    point, before = options.how.point, scoring.protocol_of_scores(source["scores"], source["scores_sha256"])
    report.update(scoring.count_trials(trials, {}), num_cohort=len(cohort.matrix))
    if fault := why_no_metrics(trials):
        log.info("%s: %s, so there are no metrics", trials.path, fault)
    else:
        report.update(scoring.measure(trials, scores, point))
    normalisation = {
        "cohort": cohort.path,
        "cohort_sha256": {path: files.sha256_file(path) for path in cohort.sources},
        "num_cohort": len(cohort.matrix),
        "cohort_top": options.top or len(cohort.matrix),
        "cohort_sides": options.sides,
    }
    enrolment = before.get("enrolment", "unknown")
    report["protocol"] = scoring.make_protocol(trials, enrolment, point, {**before, **normalisation, **source})


def _make_manifest(
    trials: Trials, scores_path: str, scores_sha256: str, sets: tuple[EmbeddingSet, ...], options: NormalisationOptions
) -> Manifest:
    inputs = {trials.path: trials.sha256, scores_path: scores_sha256}
    inputs |= {path: files.sha256_file(path) for embeddings in sets for path in embeddings.sources}
    how = options.how
    made_with = {"top": options.top, "sides": options.sides, "cohort_map": options.cohort_map,
                 "enrol_embeddings": how.enrol_embeddings, "enrol_map": how.enrol_map, "mean_of": how.mean_of,
                 "label_first": how.label_first, "score_format": how.score_format, **how.point._asdict()}
    return Manifest("normalize-scores", made_with, inputs, __version__)
