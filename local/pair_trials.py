"""Every pair of recordings of a data directory as labelled trials: how two strangers' recordings are compared."""

import argparse
import sys
from itertools import combinations
from pathlib import Path

from prepare_cnceleb import write_trials
from speakerkit.cli import entry


def list_pairs(args: argparse.Namespace) -> None:
    from speakerkit.io.tables import read_utt2spk

    speakers = read_utt2spk(Path(args.data_dir) / "utt2spk").values
    pairs = [(enrol, test, speakers[enrol] == speakers[test]) for enrol, test in combinations(speakers, 2)]
    write_trials(Path(args.trials), pairs)
    args.report |= {"num_target": sum(pair[2] for pair in pairs), "num_trials": len(pairs)}


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "pair_trials.py",
        summary="Write each pair of a data directory's utterances once, as '<enrol-id> <test-id> target|nontarget'.",
        example="local/pair_trials.py data/eval data/eval/trials.pairs",
    )
    parser.add_argument("data_dir", metavar="DATA_DIR", help="holds utt2spk")
    parser.add_argument("trials", metavar="TRIALS", help="the list to write")
    return entry.run(parser, list_pairs, argv)


if __name__ == "__main__":
    sys.exit(main())
