"""DET curves of one or several systems on the same trials, as a picture with its numbers."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from speakerkit import __version__
from speakerkit.errors import ConfigError, DataError
from speakerkit.io import files, plots
from speakerkit.io.files import Manifest
from speakerkit.jobs import scoring
from speakerkit.jobs.scoring import OperatingPoint, ScoringOptions
from speakerkit.jobs.trial_speakers import find_speakers
from speakerkit.scoring import det_plot
from speakerkit.scoring.bootstrap import SpeakerTrials, count_by_speaker
from speakerkit.scoring.det_band import confidence_band
from speakerkit.scoring.intervals import LEAST_SPEAKERS, SURE_SPEAKERS
from speakerkit.scoring.metrics import Det, compute_det, eer_of_det, min_dcf_of_det

log = logging.getLogger(__name__)

LEVEL = 0.95
USUAL_POINTS = (OperatingPoint(0.01, 1.0, 1.0), OperatingPoint(0.001, 1.0, 1.0))

_NUM_BAND_RATES = 60


@dataclass(frozen=True)
class DetPlotOptions:
    """What is drawn.

    Attributes:
        names: what the legend calls the systems; None: their score files' paths.
        points: operating points whose minDCF is marked.
        title: above the picture.
        reading: how files are read; its point is not used.
        num_replicates: how often speakers are drawn again for the shaded 95 % intervals; 0: none.
        seed: of the draws, the same for all systems.
        utt2spk: '<id> <spk-id>' lines of both sides; None: speakers by the ids, or no intervals where these don't tell.
    """
    names: tuple[str, ...] | None = None
    points: tuple[OperatingPoint, ...] = USUAL_POINTS
    title: str = ""
    reading: ScoringOptions = ScoringOptions()
    num_replicates: int = 200
    seed: int = 1
    utt2spk: str | None = None


def plot_det(trials_path: str | None, scores_paths: Sequence[str], output: str, options: DetPlotOptions, report: dict,
             overwrite: bool = False) -> None:
    """Draw the DET curves of score files, EER and minDCF marked, into a PNG or SVG with its manifest.

    Args:
        trials_path: labelled trials; None: the score file has the labels.
        scores_paths: a file a system.
        output: the picture; its ending says which kind.
        options: names, points, title.
        report: filled with `systems`, a list of {system, num_target, num_nontarget, eer_percent, eer_threshold,
            min_dcf (a list of {dcf_p_target, dcf_c_miss, dcf_c_fa, min_dcf, min_dcf_threshold}), protocol}, and
            `intervals`: level, number and seed of the draws and how many speakers have targets, or None.

    Raises:
        DataError, DataErrors: as `scoring.measure_score_file` and, with a table of speakers, `find_speakers`.
        ConfigError: `output` is an input, ends in neither .png nor .svg, or was made from something else and not
            `overwrite`; another number of names than of systems, or one name twice; matplotlib isn't installed.
        MachineError: the place can't be written.
    """
    try:
        import matplotlib  # noqa: F401 - said before millions of scores are read
    except ModuleNotFoundError:
        raise ConfigError("a drawing needs matplotlib, which isn't installed: pip install 'speakerkit[plot]'") from None
    names = _names(scores_paths, output, options)
    files.refuse_input_as_output("", output, (trials_path, *scores_paths, options.utt2spk))
    files.check_writable(output)
    with files.output_lock(output):
        scored = [scoring.read_scored_trials(trials_path, path, options.reading) for path in scores_paths]
        inputs = {one.trials.path: one.trials.sha256 for one in scored}
        inputs |= {one.scores_path: one.scores_sha256 for one in scored}
        if options.utt2spk:
            inputs[options.utt2spk] = files.sha256_file(options.utt2spk)
        made_with = {"names": names, "points": [tuple(point) for point in options.points], "title": options.title,
                     "replicates": options.num_replicates, "seed": options.seed, "utt2spk": options.utt2spk}
        manifest = Manifest("plot-det", made_with, inputs, __version__)
        if not files.prepare_output(output, manifest, overwrite):
            report.update(files.read_manifest(output)["results"])
            log.info("%s: nothing to do, it is up to date", output)
            return
        dets = [compute_det(one.scores[one.trials.is_target], one.scores[~one.trials.is_target]) for one in scored]
        report["systems"] = [_measure(name, one, det, options.points)
                             for name, one, det in zip(names, scored, dets, strict=True)]
        counted = _count_by_speaker(scored, options)
        report["intervals"] = None if counted is None else {
            "level": LEVEL, "num_replicates": options.num_replicates, "seed": options.seed,
            "num_target_speakers": counted[0].num_target_speakers}
        _draw(output, dict(zip(names, dets, strict=True)), counted, options)
        files.write_manifest(output, manifest, report)


def _names(scores_paths: Sequence[str], output: str, options: DetPlotOptions) -> list[str]:
    if plots.picture_format(output) is None:
        raise ConfigError(f"{output}: ends in neither .png nor .svg")
    names = list(options.names or ["standard input" if path == "-" else path for path in scores_paths])
    if len(names) != len(scores_paths):
        raise ConfigError(f"{len(names)} names for {len(scores_paths)} score files; want one each")
    if len(set(names)) != len(names):
        again = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"'{again}' twice; want another name for each system")
    return names


def _measure(name: str, scored: scoring.ScoredTrials, det: Det, points: Sequence[OperatingPoint]) -> dict:
    eer, eer_threshold = eer_of_det(det)
    num_target = int(np.count_nonzero(scored.trials.is_target))
    costs = []
    for point in points:
        min_dcf, threshold = min_dcf_of_det(det, *point)
        costs.append({"min_dcf": min_dcf, "min_dcf_threshold": threshold if math.isfinite(threshold) else None,
                      **{f"dcf_{key}": value for key, value in point._asdict().items()}})
    return {"system": name, "num_target": num_target, "num_nontarget": len(scored.trials) - num_target,
            "eer_percent": 100 * eer, "eer_threshold": eer_threshold if math.isfinite(eer_threshold) else None,
            "min_dcf": costs, "protocol": scoring.protocol_of_score_file(scored, points[0])}


def _marked_rates(det: Det, points: Sequence[OperatingPoint]) -> dict[str, tuple[float, float]]:
    """What is marked -> p_fa and p_miss there."""
    eer = eer_of_det(det)[0]
    marks = {"EER": (eer, eer)}
    for point in points:
        place = int(np.searchsorted(det.thresholds, min_dcf_of_det(det, *point)[1]))
        marks[f"minDCF({', '.join(f'{value:g}' for value in point)})"] = det.p_fa[place], det.p_miss[place]
    return marks


def _count_by_speaker(scored: Sequence[scoring.ScoredTrials], options: DetPlotOptions) -> list[SpeakerTrials] | None:
    """The trials of each system by speaker, or None where there are no intervals; why, is said."""
    if not options.num_replicates:
        return None
    trials = scored[0].trials
    try:
        speakers = find_speakers(trials, options.utt2spk)
    except DataError as error:
        if options.utt2spk:
            raise
        log.info("no intervals: %s", error)
        return None
    counted = [count_by_speaker(one.scores, trials.is_target, *speakers.of_trials(trials)) for one in scored]
    num_speakers = counted[0].num_target_speakers
    if num_speakers < LEAST_SPEAKERS:
        log.info("no intervals: %d speakers have target trials; want at least %d", num_speakers, LEAST_SPEAKERS)
        return None
    if num_speakers < SURE_SPEAKERS:
        log.warning("only %d speakers have target trials: the intervals are likely too narrow", num_speakers)
    return counted


def _draw(output: str, dets: Mapping[str, Det], counted: Sequence[SpeakerTrials] | None,
          options: DetPlotOptions) -> None:
    marks = {name: _marked_rates(det, options.points) for name, det in dets.items()}
    ranges = [det_plot.det_range([rates[side] for marked in marks.values() for rates in marked.values()])
              for side in (0, 1)]
    lowest = min(low for low, _ in ranges)
    ticks = [det_plot.det_ticks(*percents) for percents in ranges]
    curves, bands = {}, [None] * len(dets)
    if counted is not None:
        bands = [_band(trials, ticks[0][0], lowest, options) for trials in counted]
    for (name, det), band in zip(dets.items(), bands, strict=True):
        inside = {mark: tuple(float(np.clip(det_plot.det_deviates(rate, lowest), *places[[0, -1]]))
                              for rate, (places, _) in zip(rates, ticks, strict=True))
                  for mark, rates in marks[name].items()}
        label = f"{name}, EER {100 * marks[name]['EER'][0]:.2f} %"
        curves[label] = plots.DetCurve(*det_plot.det_points(det, lowest_percent=lowest), inside, band)
    plots.draw_det(output, curves, ticks[0], options.title, ticks[1], f"{100 * LEVEL:g} % interval, over speakers")


def _band(trials: SpeakerTrials, places: np.ndarray, lowest: float,
          options: DetPlotOptions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The interval of p_miss along the axis of false alarms."""
    x = np.linspace(*places[[0, -1]], _NUM_BAND_RATES)
    generator = np.random.default_rng(options.seed)
    low, high = confidence_band(trials, det_plot.rates_of(x), options.num_replicates, generator, LEVEL)
    return x, det_plot.det_deviates(low, lowest), det_plot.det_deviates(high, lowest)


def format_systems(report: Mapping[str, object]) -> str:
    """The numbers of each system: a name and a value a line, beginning with the system's."""
    lines = []
    for system in report["systems"]:
        lines.append(f"system {system['system']}\n")
        lines.append(scoring.format_metrics({key: value for key, value in system.items() if key != "min_dcf"}))
        lines += [scoring.format_metrics(cost) for cost in system["min_dcf"]]
    return "".join(lines)
