"""What commands share that take scored trials: two files, or one that holds the labels too."""

import argparse
import dataclasses

from speakerkit.cli import entry

FORMATS = """
formats:
  trials      <enrol-id> <test-id> target|nontarget            or 1|0; label-first: <label> <enrol-id> <test-id>
              <enrol-id>*<test-id> target|nontarget            ESPnet's trial_label, or 1|0
  scores      <enrol-id> <test-id> <score>                     the same pairs, in any order
              <enrol-id> <test-id> <score> target|nontarget    WeSpeaker's, score-label
              <enrol-id> <test-id> target|nontarget <score>    3D-Speaker's and SpeechBrain's, label-score
              <enrol-id>*<test-id> <score> 1|0                 ESPnet's, joined
A score file with labels needs no trials: give it alone.
"""
DEFAULT_MEMORY_MB = 2000
SCORE_FORMATS = ("score", "score-label", "label-score", "joined")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """trials and scores, --trials-format and --scores-format."""
    parser.add_argument("trials", nargs="?", help="the labelled list, or - for standard input")
    parser.add_argument("scores", help="the score file, or - for standard input")
    add_format_options(parser)


def add_format_options(parser: argparse.ArgumentParser) -> None:
    """--trials-format and --scores-format."""
    add_trials_format_option(parser)
    parser.add_argument("--scores-format", choices=SCORE_FORMATS,
                        help="how lines of scores are (default: what the first one looks like)")


def add_trials_format_option(parser: argparse.ArgumentParser) -> None:
    """--trials-format label-last|label-first."""
    parser.add_argument("--trials-format", choices=("label-last", "label-first"), default="label-last",
                        help="label-first: '<label> <enrol-id> <test-id>' lines, as VoxCeleb's (default: label-last)")


def add_memory_option(parser: argparse.ArgumentParser, what: str) -> None:
    """--max-memory; `what` happens to input that would take more."""
    parser.add_argument("--max-memory", metavar="MB", type=entry.number(int, 400, 10**8),
                        help=f"{what}, of any length (default: {DEFAULT_MEMORY_MB}); the trials of a --card are all "
                             "held, and refused where that would take more (default: as much as it takes)")


def reading_options(args: argparse.Namespace):
    """``jobs.scoring.ScoringOptions`` from what `add_format_options` added."""
    from speakerkit.jobs import scoring

    return scoring.ScoringOptions(label_first=args.trials_format == "label-first", score_format=args.scores_format)


def scoring_options(args: argparse.Namespace):
    """The same with the operating point that `entry.add_operating_point_options` added."""
    from speakerkit.jobs import scoring

    given = {name: value for name in scoring.OperatingPoint._fields if (value := getattr(args, name)) is not None}
    return dataclasses.replace(reading_options(args), point=scoring.OperatingPoint(**given))


def add_embedding_options(parser: argparse.ArgumentParser) -> None:
    """How embeddings are scored: --enrol-embeddings, --enrol-map, --subtract-mean."""
    parser.add_argument("--enrol-embeddings", metavar="FILE",
                        help="embeddings of the enrolments, where these lie elsewhere")
    parser.add_argument("--enrol-map", metavar="FILE", help="an enrolment is the plain mean of these embeddings")
    parser.add_argument("--subtract-mean", metavar="FILE",
                        help="take the mean of these embeddings (the training set's, say) from every embedding first")


def embedding_options(args: argparse.Namespace):
    """``jobs.scoring.ScoringOptions`` from what `add_embedding_options` and `add_trials_format_option` added."""
    from speakerkit.jobs import scoring

    point = scoring.OperatingPoint(args.p_target, args.c_miss, args.c_fa)
    label_first = args.trials_format == "label-first"
    return scoring.ScoringOptions(args.enrol_embeddings, args.enrol_map, label_first=label_first,
                                  point=point, mean_of=args.subtract_mean)
