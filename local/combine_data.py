"""Several data directories -> one, as for training on several corpora at once."""

import argparse
import sys
from pathlib import Path

from prepare_cnceleb import validate
from speakerkit.cli import entry
from speakerkit.errors import ConfigError, DataError, raise_all
from speakerkit.io.data_dir import DataDir

log = entry.log

FORMATS = """\
Reads wav.scp, utt2spk and, where there are some, segments and utt2utts of each DATA_DIR. If any has segments,
the recordings of the others become segments of full length: '<utt-id> <utt-id> 0 -1'."""


def combine(directories: list[DataDir], without: set[str]) -> dict[str, dict | None]:
    """The tables of all directories together, as `write_data_dir` takes them.

    Args:
        directories: at least one.
        without: speakers to leave out.

    Raises:
        DataErrors: an id that two of them have.
    """
    from speakerkit.io.tables import Segment

    tables: dict[str, dict] = {"wav_scp": {}, "utt2spk": {}, "segments": {}, "utt2utts": {}}
    faults: list[DataError] = []
    for data in directories:
        utt2spk = {utt_id: spk_id for utt_id, spk_id in data.utt2spk.values.items() if spk_id not in without}
        utt2utts = {utt_id: parts for utt_id, parts in (data.utt2utts or {}).items() if utt_id in utt2spk}
        part_ids = [part_id for utt_id in utt2spk for part_id in utt2utts.get(utt_id, (utt_id,))]
        segments = {part_id: Segment(part_id, 0.0, -1.0, 0) if data.segments is None else data.segments[part_id]
                    for part_id in part_ids}
        wav_scp = {segment.rec_id: data.wav_scp.values[segment.rec_id] for segment in segments.values()}
        parts = {"wav_scp": wav_scp, "utt2spk": utt2spk, "utt2utts": utt2utts, "segments": segments}
        for name, table in parts.items():
            faults += [DataError(data.path, f"'{key}' is in another of the directories too")
                       for key in table.keys() & tables[name].keys() if name in ("wav_scp", "utt2spk")]
            tables[name] |= table
    raise_all(sorted(faults, key=str))
    if not any(data.segments is not None for data in directories):
        tables["segments"] = {}
    return {name: table or None for name, table in tables.items()}


def read_speakers(path: str) -> set[str]:
    """The ids of a list, one a line."""
    from speakerkit.io.tables import read_lines

    return {line.strip() for _, line in read_lines(path, "'<spk-id>' a line")}


def combine_data(args: argparse.Namespace) -> None:
    from speakerkit.io.data_dir import read_data_dir, write_data_dir

    if any(Path(path).resolve() == Path(args.output_dir).resolve() for path in args.data_dirs):
        raise ConfigError(f"{args.output_dir} is one of the directories to combine")
    validate(map(Path, args.data_dirs))
    directories = [read_data_dir(path) for path in args.data_dirs]
    raise_all([DataError(data.path, "has no wav.scp") for data in directories if data.wav_scp is None])
    without = read_speakers(args.without_speakers) if args.without_speakers else set()
    there = {spk_id for data in directories for spk_id in data.utt2spk.values.values()}
    tables = combine(directories, without)
    if tables["utt2spk"] is None:
        raise DataError(args.without_speakers, "leaves no speaker over")
    write_data_dir(args.output_dir, **tables)
    num_speakers = len(set(tables["utt2spk"].values()))
    if without:
        log.info("%d of the %d speakers to leave out are there", len(without & there), len(without))
    if args.expect_speakers not in (None, num_speakers):
        log.warning("%s has %d speakers; expected: %d", args.output_dir, num_speakers, args.expect_speakers)
    args.report |= {"num_utterances": len(tables["utt2spk"]), "num_speakers": num_speakers}
    validate([Path(args.output_dir)])


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "combine_data.py", formats=FORMATS, summary="Combine data directories into one.",
        example="local/combine_data.py data/train_all data/cnceleb/train data/train data/eval")
    parser.add_argument("output_dir", metavar="OUTPUT_DIR", help="data directory to write")
    parser.add_argument("data_dirs", nargs="+", metavar="DATA_DIR", help="those to combine; they share no id")
    parser.add_argument("--without-speakers", metavar="FILE", help="a list of speakers to leave out, one id a line")
    parser.add_argument("--expect-speakers", type=entry.number(int, 1, 10**9), metavar="N",
                        help="say so if there are not so many")
    return entry.run(parser, combine_data, argv)


if __name__ == "__main__":
    sys.exit(main())
