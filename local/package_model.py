"""A trained model as it is given away: half precision, with threshold, results and a card."""

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

from speakerkit.cli import entry
from speakerkit.errors import DataError

CARD = """\
# {name}

{summary}

| | |
|---|---|
| architecture | {architecture}, {num_parameters:,} parameters, {embedding_dim} values an embedding, float16 |
| front end | {num_mel_bins} log-mel bins, {sample_rate} Hz, mean over time removed |
| training data | {training_data} |
| domain | {domain} |
| licence | {licence} |
{origin}\
| training | {num_steps:,} steps, {hours:.2f} h ({seconds:,} s), {precision}, seed {seed}, speakerkit {version} |
| commit | {commit} |
| command | `{command}` |
| weights SHA-256 | `{weights_sha256}` |

## Results on speakers it never saw

{table}

The decision threshold, cosine {threshold:.4f}, is the EER threshold of "{threshold_source}".

{calibration}{text}
"""


def read_json(path: str) -> dict:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, f"is no result: {error}") from None


def git_commit() -> str:
    """The checkout's commit; 'unknown' outside one."""
    root = Path(__file__).resolve().parent
    found = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def describe_trials(name: str, result: dict) -> str:
    """A result in words, with its protocol."""
    return (
        f"{name}: {result['num_target']:,} target and {result['num_nontarget']:,} nontarget trials, "
        f"EER {result['eer_percent']:.2f} %"
    )


def without_folders(result: dict) -> dict:
    """A result whose protocol names its files, not where they lay on the machine that made them."""
    protocol = {key: Path(value).name if isinstance(value, str) else value
                for key, value in result.get("protocol", {}).items()}
    return result | ({"protocol": protocol} if protocol else {})


def package(args: argparse.Namespace) -> None:
    from speakerkit.io.files import write_text
    from speakerkit.models import model_file
    from speakerkit.models.networks import count_parameters

    model = model_file.load_model(args.model)
    results = {name: read_json(path) for name, path in args.result or ()}
    info = dataclasses.replace(model.info, name=Path(args.output).stem)
    if results:
        name, first = next(iter(results.items()))
        kept = ("num_target", "num_nontarget", "eer_percent", "eer_threshold", "min_dcf", "protocol")
        info = dataclasses.replace(
            info,
            threshold=float(first["eer_threshold"]),
            threshold_trials=describe_trials(name, first),
            results={n: without_folders({k: r[k] for k in kept if k in r}) for n, r in results.items()},
            training=info.training | {"commit": args.commit or git_commit(), "command": args.command},
        )
    if args.calibrate:
        info = dataclasses.replace(info, calibration=calibrate(*args.calibrate))
    info = model_file.save_model(args.output, model.network, info, half=True)
    args.report |= {"output": args.output, "weights_sha256": info.weights_sha256}
    if results:
        card = make_card(info, results, count_parameters(model.network)[0], Path(args.text).read_text(encoding="utf-8"))
        write_text(Path(args.output).with_suffix(".md"), card)


def calibrate(trials_path: str, scores_path: str) -> dict:
    """The map of scores to log-likelihood ratios that these trials give, as a model file holds it."""
    from speakerkit.jobs import scoring
    from speakerkit.scoring.calibration import fit_calibration

    scored = scoring.read_scored_trials(trials_path, scores_path, scoring.ScoringOptions())
    fitted = fit_calibration(scored.scores, scored.trials.is_target)
    num_target = int(scored.trials.is_target.sum())
    return fitted.to_dict() | {
        "p_target": 0.5,
        "num_target": num_target,
        "num_nontarget": len(scored.trials) - num_target,
        "trials_sha256": scored.trials.sha256,
    }


def calibration_in_words(calibration: dict | None) -> str:
    """A paragraph for the card; nothing where the model has no calibration."""
    if calibration is None:
        return ""
    return (f"On the same trials a cosine means a log-likelihood ratio of {calibration['scale']:.3f} * cosine "
            f"{calibration['offset']:+.3f} (natural logarithm; prior-weighted logistic regression at 0.5).\n\n")


def origins(training: dict) -> list[tuple[str, str]]:
    """What a model learnt from besides its recordings: a model it began with, a teacher."""
    found = []
    if init := training.get("init"):
        found.append(("begun with", f"{init['name']}, SHA-256 `{init['sha256']}`"))
    if teacher := training.get("teacher"):
        words = f"{teacher['name']}, {teacher['training_data']}, {teacher['licence']}, SHA-256 `{teacher['sha256']}`"
        found.append(("teacher", words))
    return found


def make_card(info, results: dict[str, dict], num_parameters: int, text: str) -> str:
    """The model card as Markdown: what the file says of itself, its results, and the given text."""
    rows = ["| trials | target | nontarget | EER % | minDCF (p_target, c_miss, c_fa) |", "|---|---|---|---|---|"]
    for name, result in results.items():
        point = ", ".join(f"{result[f'dcf_{key}']:g}" for key in ("p_target", "c_miss", "c_fa"))
        rows.append(
            f"| {name} | {result['num_target']:,} | {result['num_nontarget']:,} | {result['eer_percent']:.2f} "
            f"| {result['min_dcf']:.4f} ({point}) |"
        )
    summary, _, rest = text.strip().partition("\n\n")
    training = info.training
    return CARD.format(
        name=info.name,
        summary=summary,
        architecture=info.model.architecture,
        num_parameters=num_parameters,
        embedding_dim=info.embedding_dim,
        num_mel_bins=info.fbank.num_mel_bins,
        sample_rate=info.fbank.sample_rate,
        training_data=info.training_data,
        domain=info.domain,
        licence=info.licence,
        hours=training["seconds"] / 3600,
        table="\n".join(rows),
        origin="".join(f"| {what} | {words} |\n" for what, words in origins(training)),
        threshold=info.threshold,
        threshold_source=info.threshold_trials,
        text=rest,
        calibration=calibration_in_words(info.calibration),
        weights_sha256=info.weights_sha256,
        **{k: training[k] for k in ("num_steps", "seconds", "precision", "seed", "version", "commit", "command")},
    )


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "package_model.py",
        summary="Store a model at half precision; with results, also its threshold and a card beside it.",
        example="local/package_model.py exp/resnet34/model.safetensors exp/resnet34/half.safetensors",
    )
    parser.add_argument("model", metavar="MODEL.safetensors", help="the trained model")
    parser.add_argument("output", metavar="OUT.safetensors", help="the file to write; the card is OUT.md")
    parser.add_argument("--result", nargs=2, action="append", metavar=("NAME", "RESULT"),
                        help="what score-trials --json wrote; the first gives the threshold")
    parser.add_argument("--calibrate", nargs=2, metavar=("TRIALS", "SCORES"),
                        help="scored trials that map cosines to log-likelihood ratios")
    parser.add_argument("--text", metavar="FILE", help="words for the card: a paragraph on top, the rest at its end")
    parser.add_argument("--command", default="", help="the command that trained it")
    parser.add_argument("--commit", default="", help="the commit it was trained at (default: this checkout's)")
    return entry.run(parser, package, argv)


if __name__ == "__main__":
    sys.exit(main())
