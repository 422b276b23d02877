"""A model on an evaluation set: unpack, embed, score, and say what the error rates are the error rates of."""

import dataclasses
import json
import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from speakerkit import __version__
from speakerkit.errors import DataError
from speakerkit.io import ark, files
from speakerkit.io.bad_recordings import count_reasons
from speakerkit.io.files import Manifest
from speakerkit.io.score_lines import read_score_lines
from speakerkit.io.scored_trials import ScoredTrials, match_scores
from speakerkit.io.scores import write_scores
from speakerkit.io.trials import Trials
from speakerkit.jobs import cards, scoring
from speakerkit.jobs.cards import CardOptions
from speakerkit.jobs.embedding_set import load_embeddings
from speakerkit.jobs.evaluation_set import (
    EvaluationSet,
    find_evaluation_folder,
    read_evaluation_set,
    unpack_evaluation_archive,
)
from speakerkit.jobs.extraction import ExtractionOptions, extract_embeddings, vad_facts
from speakerkit.jobs.scoring import OperatingPoint
from speakerkit.jobs.utterances import Utterance, audio_fingerprint

log = logging.getLogger(__name__)

DEFAULT_TRIALS = "lists/trials.lst.speech"
DEFAULT_FOLDER = "exp/eval-eer"
CONCATENATED_FILE = "concatenated file"  # one enrolment file a speaker, several of its recordings one after another


@dataclass(frozen=True)
class EvaluationOptions:
    """What is evaluated and how errors are weighed; the costs are the published reference system's."""

    output_dir: str | None = None  # None: exp/eval-eer/<model>-<first 8 digits of its SHA-256>
    trials: str = DEFAULT_TRIALS
    point: OperatingPoint = OperatingPoint(0.01, 10.0, 1.0)
    extraction: ExtractionOptions = field(default_factory=ExtractionOptions)
    card: CardOptions | None = None


@dataclass(frozen=True)
class _Model:
    path: str
    name: str
    sha256: str
    precision: str
    backend: str


def eval_eer(corpus: str, options: EvaluationOptions, report: dict) -> None:
    """EER and minDCF of a model on an archive or a folder with enroll/, test/ and a list of trials.

    Args:
        corpus: `.tar.gz` or `.tar`, unpacked once into `<output_dir>/eval`; or a folder.
        options: model, trials, where results go.
        report: filled with metrics, counts and the protocol, for the text and --json.

    Raises:
        DataError, DataErrors: an archive that can't be trusted, trials that are none or have no recording,
            more bad recordings than allowed.
        ConfigError: the place holds the result of something else.

    Writes `wav.scp`, `emb.ark`, `emb.scp`, `scores`, `result.md` and `result.json` there. Recordings that
    may be bad (--max-bad) take their trials with them; how many is counted, and the protocol says it.
    """
    vad_facts(options.extraction.vad)  # is it installed?
    model = _choose_model(options.extraction)
    card = options.card and dataclasses.replace(options.card, model=model.path)
    if card is not None:  # what is wrong with it is said before hours of work
        cards.check_options(card, ())
    folder = Path(options.output_dir or Path(DEFAULT_FOLDER, f"{_file_name(model.name)}-{model.sha256[:8]}"))
    report.update(output_dir=str(folder))
    files.check_writable(folder / "result.json")
    with files.output_lock(folder / "result.json"):
        source = _open_corpus(corpus, folder, options.extraction)
        evaluation = read_evaluation_set(find_evaluation_folder(source.pop("folder")), options.trials)
        manifest = _manifest(evaluation, model, options, source)
        is_new = files.prepare_output(folder / "result.json", manifest, options.extraction.overwrite,
                                      [folder / "scores", folder / "result.md"])
        if not is_new and (folder / "emb.ark").exists() and (folder / "emb.scp").exists():
            report.update(files.read_manifest(folder / "result.json")["results"])
            _warn_of_left_out(report)
            log.info("%s: nothing to do, it is up to date", folder / "result.json")
        else:
            _evaluate(evaluation, folder, model, options, source, report)
            files.write_manifest(folder / "result.json", manifest, report, [folder / "scores", folder / "result.md"])
            log.info("%s: emb.ark, emb.scp, scores, result.json, result.md", folder)
        if card is not None:
            _write_card(evaluation, folder, card, report)


def _choose_model(options: ExtractionOptions) -> _Model:
    from speakerkit.inference.backends import choose_backend

    choice = choose_backend(options.model, options.device, options.precision, options.backend, forks=options.nj > 1)
    return _Model(choice.path, choice.info.name, choice.sha256, choice.precision, choice.backend)


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).strip(".") or "model"


def _open_corpus(corpus: str, folder: Path, options: ExtractionOptions) -> dict[str, str]:
    """Where the corpus lies unpacked and, of an archive, its path and SHA-256."""
    if os.path.isdir(corpus):
        return {"folder": corpus, "corpus": corpus}
    sha256 = unpack_evaluation_archive(corpus, folder / "eval", options.overwrite, options.show)
    return {"folder": str(folder / "eval"), "corpus": corpus, "corpus_sha256": sha256}


def _manifest(evaluation: EvaluationSet, model: _Model, options: EvaluationOptions, source: dict[str, str]) -> Manifest:
    chosen = options.extraction.audio_options
    made_with = {**options.point._asdict(), "precision": model.precision, "backend": model.backend,
                 "channel": chosen.channel, "pcm_rate": chosen.pcm_rate, "min_duration": chosen.min_duration_s,
                 "accept_truncated": chosen.accept_truncated, **vad_facts(options.extraction.vad)}
    utterances = [Utterance(utt_id, path) for utt_id, path in evaluation.recordings.items()]
    inputs = {"model": model.sha256, "trials": evaluation.trials.sha256,
              "audio (paths, sizes, times)": audio_fingerprint(utterances)}
    if "corpus_sha256" in source:
        inputs["archive"] = source["corpus_sha256"]
    return Manifest("eval-eer", made_with, inputs, __version__)


def _evaluate(evaluation: EvaluationSet, folder: Path, model: _Model, options: EvaluationOptions,
              source: dict[str, str], report: dict) -> None:
    """Embeddings, scores, metrics and their two result files."""
    files.write_text(folder / "wav.scp", "".join(f"{utt_id} {path}\n" for utt_id, path in
                                                 evaluation.recordings.items()))
    report.update(model=model.name, sha256=model.sha256, precision=model.precision)
    extract = dataclasses.replace(options.extraction, model=model.path, precision=model.precision,
                                  backend=model.backend)
    found: dict = {}
    try:
        extract_embeddings(folder / "wav.scp", folder / "emb.ark", extract, found)
    except DataError:
        report.update((name, found[name]) for name in found if name.startswith(("num_", "bad_")))
        raise
    report.update((name, found[name]) for name in ("num_utterances", "num_bad", "audio_seconds", "speech_seconds")
                  if name in found)
    embeddings = load_embeddings(folder / "emb.ark")
    trials = leave_out(evaluation.trials, evaluation.recordings.keys() - embeddings.rows.keys())
    report["num_trials_left_out"] = len(evaluation.trials) - len(trials)
    report.update(scoring.count_trials(trials, embeddings.made_of))
    _warn_of_left_out(report)
    scores = scoring.score_embeddings(trials, embeddings, embeddings)
    report.update(scoring.measure(trials, scores, options.point))
    made_by = {"model": model.name, "model_sha256": model.sha256, "precision": model.precision,
               **vad_facts(options.extraction.vad),
               "num_trials_left_out": report["num_trials_left_out"], **source}
    report["protocol"] = scoring.make_protocol(trials, CONCATENATED_FILE, options.point, made_by)
    write_scores(folder / "scores", trials, scores)
    files.write_text(folder / "result.md", result_in_markdown(report))
    files.write_json(folder / "result.json", report)


def _write_card(evaluation: EvaluationSet, folder: Path, card: CardOptions, report: dict) -> None:
    """The result's card, from the scores that lie there."""
    trials = leave_out(evaluation.trials, evaluation.recordings.keys() - ark.read_scp(folder / "emb.scp").keys())
    lines = read_score_lines(folder / "scores")
    reasons = count_reasons(folder / "emb.ark") or {}
    left_out = {"num_trials": report["num_trials_left_out"], "num_recordings": report["num_bad"], "reasons": reasons,
                "bad_lists": [f"{folder / 'emb.ark'}.bad.tsv"] if reasons else []}
    cards.write_card(ScoredTrials(trials, match_scores(trials, lines), lines), report["protocol"], card, left_out)


def _warn_of_left_out(report: dict) -> None:
    if left_out := report["num_trials_left_out"]:
        log.warning("%s of %s trials left out with the %d recordings that can't be used: this result compares with no "
                    "other", f"{left_out:,}", f"{left_out + report['num_trials']:,}", report["num_bad"])


def leave_out(trials: Trials, ids: set[str]) -> Trials:
    """The trials without those of some ids, in their order."""
    if not ids:
        return trials
    is_kept = np.ones(len(trials), dtype=bool)
    for names, index in ((trials.enrol_ids, trials.enrol_index), (trials.test_ids, trials.test_index)):
        is_kept &= np.array([name not in ids for name in names])[index]
    sides = []
    for names, index in ((trials.enrol_ids, trials.enrol_index), (trials.test_ids, trials.test_index)):
        used, new_index = np.unique(index[is_kept], return_inverse=True)
        sides.append(([names[number] for number in used], new_index.astype(np.int32)))
    (enrol_ids, enrol_index), (test_ids, test_index) = sides
    is_target = None if trials.is_target is None else trials.is_target[is_kept]
    left = dataclasses.replace(trials, enrol_ids=enrol_ids, test_ids=test_ids, enrol_index=enrol_index,
                               test_index=test_index, is_target=is_target)
    return dataclasses.replace(left, num_repeated=len(left) - len(np.unique(left.pairs())))


def result_in_markdown(report: dict) -> str:
    """One result as a page: the table of metrics, then what they are metrics of."""
    protocol = report["protocol"]
    text = scoring.format_metrics(report)
    rows = [f"| {name} | {value} |" for name, value in (line.split(" ", 1) for line in text.splitlines())]
    facts = [f"- {name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in protocol.items()]
    return "\n".join([f"# {protocol['model']} on {os.path.basename(protocol['trials'])}", "", "| metric | value |",
                      "|---|---|", *rows, "", "Protocol:", "", *facts, "", f"speakerkit {__version__}, `eval-eer`", ""])
