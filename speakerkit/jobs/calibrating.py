"""Calibrations of scored trials: fitted, written, read; on their own or inside a copy of the model."""

import json
import logging
import os

from speakerkit import __version__
from speakerkit.errors import DataError
from speakerkit.io import files
from speakerkit.io.files import Manifest
from speakerkit.io.scored_trials import ScoredTrials
from speakerkit.jobs import scoring
from speakerkit.scoring.calibration import Calibration, compute_cllr, fit_calibration, min_cllr_of_det
from speakerkit.scoring.metrics import compute_det

log = logging.getLogger(__name__)

_MOST_BYTES = 1 << 20
TEXT_FORMATS = {"num_target": "d", "num_nontarget": "d", "p_target": "g", "scale": ".9g", "offset": ".9g",
                "cllr": ".4f", "min_cllr": ".4f"}


def calibrate_scores(trials_path: str | None, scores_path: str, output: str, p_target: float, model: str | None,
                     options: scoring.ScoringOptions, overwrite: bool, report: dict) -> None:
    """Fit scale and offset on scored trials; write them as JSON or, with a model, as a copy of it that has them.

    Args:
        trials_path: labelled trials, or None where the scores have labels.
        scores_path: their scores.
        output: `.json`; with `model` a `.safetensors`.
        p_target: the prior at which the fit weighs errors.
        model: the model that the scores are of.
        options: how the files are read.
        overwrite: replace what was made from something else.
        report: filled with scale, offset, Cllr of the calibrated scores and minCllr, on these same trials.

    Raises:
        DataError: scores that no calibration fits, or of another model; faulty files.
        ConfigError: `output` is one of the inputs or was made from something else and not `overwrite`.
    """
    from speakerkit.models import find

    model_path = None if model is None else os.fspath(find.find_model(model))
    files.refuse_input_as_output("--output", output, (trials_path, scores_path, model_path))
    files.check_writable(output)
    scored = scoring.read_scored_trials(trials_path, scores_path, options)
    inputs = {"trials": scored.trials.sha256, "scores": scored.scores_sha256}
    if model_path is not None:
        inputs["model"] = files.sha256_file(model_path)
        _refuse_another_model(scored, options, model_path, inputs["model"])
    manifest = Manifest("calibrate-scores", {"p_target": p_target}, inputs, __version__)
    with files.output_lock(output):
        if not files.prepare_output(output, manifest, overwrite):
            report.update(files.read_manifest(output)["results"])
            log.info("%s: nothing to do, it is up to date", output)
            return
        report.update(_fit(scored, p_target))
        if model_path is None:
            files.write_json(output, report)
        else:
            from speakerkit.models import model_file

            model_file.copy_with_calibration(model_path, output, dict(report))
        files.write_manifest(output, manifest, report)


def _fit(scored: ScoredTrials, p_target: float) -> dict[str, object]:
    trials, scores = scored.trials, scored.scores
    try:
        calibration = fit_calibration(scores, trials.is_target, p_target)
    except ValueError as error:
        raise DataError(scored.scores_path, str(error)) from None
    num_target = int(trials.is_target.sum())
    return {**calibration.to_dict(), "p_target": p_target, "num_target": num_target,
            "num_nontarget": len(trials) - num_target, "trials": os.path.basename(trials.path),
            "trials_sha256": trials.sha256, "scores_sha256": scored.scores_sha256,
            "cllr": compute_cllr(calibration.to_llr(scores), trials.is_target),
            "min_cllr": min_cllr_of_det(compute_det(scores[trials.is_target], scores[~trials.is_target]))}


def _refuse_another_model(scored: ScoredTrials, options: scoring.ScoringOptions, path: str, sha256: str) -> None:
    known = scoring.protocol_of_score_file(scored, options.point)
    if known["model_sha256"] and known["model_sha256"] != sha256:
        raise DataError(path, f"is model {sha256[:8]}, but the scores are of {known['model']} "
                              f"({known['model_sha256'][:8]})")


def read_calibration(path: str | os.PathLike) -> Calibration:
    """What `calibrate-scores` wrote as JSON.

    Raises:
        DataError: no such file, no JSON object with a scale above 0 and an offset.
    """
    try:
        with open(path, "rb") as stream:
            facts = json.loads(stream.read(_MOST_BYTES))
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(path, f"is no calibration: {error}; want what calibrate-scores writes") from None
    if not isinstance(facts, dict):
        raise DataError(path, "is no calibration; want a JSON object with scale and offset")
    try:
        return Calibration.from_dict(facts)
    except ValueError as error:
        raise DataError(path, str(error)) from None
