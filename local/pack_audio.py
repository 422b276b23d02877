"""The recordings of a data directory packed into a few large files, which training reads instead."""

import argparse
import sys

from speakerkit import __version__
from speakerkit.cli import entry
from speakerkit.errors import RecordingError

FORMATS = """\
DATA_DIR holds wav.scp ('<rec-id> <path>' a line). It gets packed/shard-00001, ... and, when all of them are
there, packed.scp ('<rec-id> <shard>:<offset> <num-samples> <num-channels> <sample-rate> <int16|float32>' a
line). train-model then reads every stretch from the shards: the very samples that the files have, so
batches are the same, without opening or decoding a small file for each. What can't be read is left out
with a warning; training still finds it by wav.scp, and judges it."""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "pack_audio.py", formats=FORMATS, summary="Pack a data directory's recordings for training.",
        example="local/pack_audio.py data/train")
    parser.add_argument("data_dir", metavar="DATA_DIR", help="data directory with wav.scp")
    parser.add_argument("--shard-mb", type=entry.number(int, 1, 10**6), default=2048, metavar="MB",
                        help="size of a shard (default: %(default)s)")
    parser.add_argument("--pcm-rate", type=entry.number(int, 1000, 384000), metavar="HZ",
                        help="sample rate of raw .pcm files")
    entry.add_output_options(parser)
    return entry.run(parser, pack_audio, argv)


def pack_audio(args: argparse.Namespace) -> None:
    from pathlib import Path

    from tqdm import tqdm

    from speakerkit.io import files, locks, packed, tables

    folder = Path(args.data_dir)
    wav_scp = tables.read_table(folder / "wav.scp")
    list_path = folder / packed.NAME
    manifest = files.Manifest("pack_audio.py", {"shard_mb": args.shard_mb, "pcm_rate": args.pcm_rate},
                              {"wav.scp": files.sha256_file(folder / "wav.scp")}, __version__)
    with locks.output_lock(list_path):
        if not files.prepare_output(list_path, manifest, args.overwrite):
            entry.log.info("%s: nothing to do", list_path)
            args.report.update(files.read_manifest(list_path)["results"])
            return
        unread: list[RecordingError] = []
        bar = tqdm(wav_scp.values.items(), desc="pack", unit="rec", disable=True if args.quiet else None)
        found = read_all(bar, folder / "wav.scp", args.pcm_rate, unread)
        count = sum(1 for _ in packed.write_packed(folder, found, args.shard_mb << 20))
        results = {"num_packed": count, "num_unreadable": len(unread)}
        files.write_manifest(list_path, manifest, results)
    args.report.update(results)
    for error in unread[:10]:
        entry.log.warning("not packed: %s", error)
    entry.log.info("%s: %d recordings packed, %d can't be read", list_path, count, len(unread))


def read_all(rows, list_path, pcm_rate, unread: list):
    """(id, samples, rate) of every recording that can be read; why the others can't, to ``unread``."""
    from speakerkit.io import packed, pipes, tables

    for rec_id, value in rows:
        try:
            if pipes.is_pipe(value):
                raise RecordingError(value, "pipe-refused", "training reads stretches: store the recording first")
            samples, rate = packed.read_whole(tables.resolve_path(value, list_path), pcm_rate)
        except RecordingError as error:
            unread.append(error)
            continue
        yield rec_id, samples, rate


if __name__ == "__main__":
    sys.exit(main())
