"""validate-data: what a data directory holds, or everything that is wrong with it."""

import argparse
import logging

from speakerkit.cli import entry

log = logging.getLogger(__name__)

FORMATS = """
files read, where they are there:
  wav.scp          <rec-id> <path>               or '<rec-id> <command> |' with --allow-pipes
  segments         <utt-id> <rec-id> <start> <end>   seconds; without it a recording is an utterance
  utt2utts         <utt-id> <part-id>...         an utterance joined of segments, else of recordings
  utt2spk          <utt-id> <spk-id>
  spk2utt          <spk-id> <utt-id>...
  feats.scp        <utt-id> <archive>:<offset>
  utt2num_frames   <utt-id> <frames>
  trials           <enrol-id> <test-id> [target|nontarget]
written to standard output: '<name> <count>' a line
"""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "validate-data",
        summary="Check a Kaldi data directory: its tables, how they fit together, the header of every recording "
                "and feature matrix. Prints its counts, or every fault as file:line.",
        example="validate-data data/train",
        formats=FORMATS)
    parser.add_argument("data_dir", metavar="DIR", help="the data directory")
    parser.add_argument("--read-audio", action="store_true",
                        help="decode every recording instead of reading its header: finds silence, damage and "
                             "samples that are not finite (a wrong checksum inside a FLAC file stays unseen)")
    entry.add_audio_options(parser, max_bad=False)
    return entry.run(parser, validate_data, argv)


def validate_data(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from speakerkit.errors import DataError
    from speakerkit.io.data_dir_checks import validate_data_dir

    def progress(recordings):
        return tqdm(recordings, desc="recordings", unit="", disable=True if args.quiet else None, leave=False)

    try:
        counts, warnings = validate_data_dir(args.data_dir, args.read_audio, args.allow_pipes,
                                             entry.audio_options(args), progress)
    except DataError as error:
        args.report["num_faults"] = len(getattr(error, "faults", [error]))
        raise
    args.report |= counts | {"num_faults": 0, "num_warnings": len(warnings), "warnings": warnings}
    for warning in warnings:
        log.warning("%s", warning)
    for name, count in counts.items():
        print(name, count)
