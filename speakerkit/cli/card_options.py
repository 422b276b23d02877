"""The options of a result card, wherever scored trials are measured."""

import argparse

from speakerkit.cli import entry

CARD_HELP = """\
card: PREFIX.json and PREFIX.md say what was measured (protocol, trial list and its SHA-256, counts, enrolment, what
was left out and why, model), EER, minDCF at (0.01, 1, 1), (0.05, 1, 1), (0.001, 1, 1), (0.01, 10, 1) and the
command's own operating point, each with a 95 % confidence interval from speakers drawn again on both sides of a
trial; the actual DCF at a stated threshold; minCllr, and Cllr where there is a calibration.
"""


def add_card_options(parser: argparse.ArgumentParser, model: bool = True) -> None:
    """--card and what goes on it.

    Args:
        parser: of the command.
        model: also add --model; without it the command has one of its own.
    """
    group = parser.add_argument_group("result card")
    group.add_argument("--card", metavar="PREFIX", help="also write a result card, PREFIX.json and PREFIX.md")
    group.add_argument("--protocol-name", metavar="TEXT", help="what the protocol is called (default: the list's name)")
    add_bootstrap_options(group)
    if model:
        group.add_argument("--model", metavar="MODEL",
                           help="the model of the scores: its training data, threshold and calibration go on the card")
    group.add_argument("--calibration", metavar="FILE",
                       help="what calibrate-scores wrote: Cllr and the actual DCF at its Bayes thresholds")
    group.add_argument("--threshold", type=entry.number(float, -1e12, 1e12), metavar="SCORE",
                       help="the score at which the actual DCF is taken (default: the calibration's Bayes thresholds, "
                            "else the model's threshold)")


def add_bootstrap_options(group, num_replicates: int = 1000) -> None:
    """--utt2spk, --replicates (by default `num_replicates`) and --seed."""
    group.add_argument("--utt2spk", metavar="FILE",
                       help="'<id> <spk-id>' lines of both sides (default: the ids' text before the first '-' or '/')")
    group.add_argument("--replicates", type=entry.number(int, 0, 10**6), default=num_replicates, metavar="N",
                       help="how often the speakers are drawn again; 0: no intervals (default: %(default)s)")
    entry.add_seed_option(group)


def card_options(args: argparse.Namespace, model: str | None = None):
    """``jobs.cards.CardOptions``, or None without --card; options that only a card takes are refused then.

    Raises:
        ConfigError: such an option without --card, or a number of draws that is none.
    """
    from speakerkit.errors import ConfigError

    if args.card is None:
        for name in ("protocol_name", "utt2spk", "calibration", "threshold"):
            if getattr(args, name) is not None:
                raise ConfigError(f"--{name.replace('_', '-')} is of a card; give --card PREFIX too")
        return None
    from speakerkit.jobs.cards import CardOptions

    refuse_few_replicates(args.replicates)
    return CardOptions(prefix=args.card, name=args.protocol_name, utt2spk=args.utt2spk, num_replicates=args.replicates,
                       seed=args.seed, model=model, calibration=args.calibration, threshold=args.threshold,
                       overwrite=args.overwrite)


def refuse_few_replicates(num_replicates: int, least: int = 0) -> None:
    """ConfigError for a number of draws that makes no interval."""
    from speakerkit.errors import ConfigError

    if num_replicates < 20 and (num_replicates or least):
        raise ConfigError(f"--replicates {num_replicates} is too few for an interval; want at least 20"
                          + ("" if least else ", or 0 for none"))
