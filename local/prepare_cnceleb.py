"""CN-Celeb 1 and 2 as they unpack -> data directories for training and evaluation, held to what is published."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from cnceleb_corpus import (
    CNCELEB1,
    CNCELEB2,
    PUBLISHED_COUNTS,
    Evaluation,
    Recording,
    audio_files,
    count_cnceleb1,
    count_evaluation,
    find_tree,
    genre_of,
    is_speech,
    read_evaluation,
    read_fields,
    read_training_sets,
    recording_name,
)
from join_short import Joined, join_short, read_durations
from speakerkit.cli import entry
from speakerkit.errors import DataError, raise_all

__all__ = ["CNCELEB1", "CNCELEB2", "Evaluation", "Recording", "audio_files", "check_disjoint", "find_tree",
           "read_evaluation", "read_fields", "read_training_sets", "tell_counts", "validate", "write_evaluation",
           "write_recordings", "write_trials"]

log = entry.log

WHOLE_JOIN_S = 5.0      # the shortest utterance for which a number of joined ones is published
NEARLY = 0.95           # of a published count: such a corpus was to be the whole one

FORMATS = """\
TRAIN_DIR  wav.scp utt2spk spk2utt of all training speakers; with --join-below also utt2utts: '<utt-id> <rec-id>...',
           utterances that are several recordings of one speaker and genre, read as one without being written
EVAL_DIR   wav.scp utt2spk spk2utt of the enrolment files, the test files and the utterances that the
           enrolment files were made of; utt2dur (seconds) of all, utt2genre of all but the enrolment files;
           trials ('<enrol-id> <test-id> target|nontarget'), trials.speech (those with a test utterance of
           genre speech), enroll.map ('<enrol-id> <utt-id>...')"""


def write_trials(path: Path, trials: Iterable[tuple[str, str, bool]]) -> None:
    """Write '<enrol-id> <test-id> target|nontarget' lines."""
    from speakerkit.io.files import open_output

    with open_output(path, "w") as stream:
        stream.writelines(f"{enrol} {test} {'target' if is_target else 'nontarget'}\n"
                          for enrol, test, is_target in trials)


def write_recordings(folder: Path, recordings: Iterable[Recording], joined: Joined | None = None) -> None:
    """Write wav.scp, utt2spk and spk2utt of a data directory, sorted as LC_ALL=C sorts; utt2utts of joined ones."""
    from speakerkit.io.data_dir import write_data_dir

    wav_scp, utt2spk = {}, {}
    for recording in recordings:
        wav_scp.setdefault(recording.utt_id, recording.path)
        utt2spk.setdefault(recording.utt_id, recording.spk_id)
    if joined is None:
        write_data_dir(folder, wav_scp=wav_scp, utt2spk=utt2spk)
    else:
        write_data_dir(folder, wav_scp=wav_scp, utt2spk=joined.utt2spk, utt2utts=joined.utt2utts or None)


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write the evaluation data directory with trials and enroll.map."""
    from speakerkit.io.tables import sort_key, write_table

    sources = evaluation.sources
    write_recordings(folder, [*evaluation.enrolments, *evaluation.tests,
                              *(source for found in sources.values() for source in found)])
    write_trials(folder / "trials", evaluation.trials)
    write_table(folder / "enroll.map", ((enrol_id, " ".join(source.utt_id for source in sources[enrol_id]))
                                        for enrol_id in sorted(sources, key=sort_key)))


def check_disjoint(training: Iterable[Recording], evaluation: Evaluation, where: Path) -> None:
    """Refuse speakers who are in both sets: what is evaluated on them would be too good."""
    evaluated = {recording.spk_id for recording in [*evaluation.enrolments, *evaluation.tests]}
    both = {recording.spk_id for recording in training} & evaluated
    raise_all([DataError(where, f"speaker '{spk_id}' is in training and in evaluation") for spk_id in sorted(both)])


def validate(folders: Iterable[Path]) -> None:
    """Check the tables of data directories as validate-data does; say what they hold.

    No recording is opened: 650,000 would take a while, and every later command looks at those it
    reads and leaves bad ones out as far as --max-bad allows.

    Raises:
        DataErrors: every fault of every folder.
    """
    from speakerkit.io.data_dir_checks import validate_data_dir

    faults: list[DataError] = []
    for folder in folders:
        try:
            counts, warnings = validate_data_dir(folder, progress=lambda recordings: ())
        except DataError as found:
            faults += getattr(found, "faults", [found])
            continue
        log.info("%s: %s", folder, ", ".join(f"{name} {value:,}" for name, value in counts.items() if value))
        for warning in warnings:
            if warning.startswith("trials: ") and (folder / "enroll.map").exists():
                continue  # ids of that map stand for utterances without being one
            log.warning("%s/%s", folder, warning)
    raise_all(faults)


def write_conditions(folder: Path, evaluation: Evaluation, nj: int) -> None:
    """Write what break-down-results tells trials apart by: utt2genre and utt2dur.

    An enrolment file has no genre of its own: enroll.map says of which utterances it was made.
    """
    from speakerkit.io.tables import sort_key, write_table

    utterances = {recording.utt_id: recording for recording in
                  [*evaluation.tests, *(source for found in evaluation.sources.values() for source in found)]}
    write_table(folder / "utt2genre", ((utt_id, genre_of(recording_name(utterances[utt_id])))
                                       for utt_id in sorted(utterances, key=sort_key)))
    utterances |= {recording.utt_id: recording for recording in evaluation.enrolments}
    utt_ids = sorted(utterances, key=sort_key)
    durations = read_durations([utterances[utt_id].path for utt_id in utt_ids], nj)
    write_table(folder / "utt2dur", ((utt_id, f"{duration:.3f}") for utt_id, duration in
                                     zip(utt_ids, durations, strict=True) if duration))


def tell_counts(counts: Mapping[str, int], published_counts: Mapping[str, int] = PUBLISHED_COUNTS,
                demanded_of: Path | None = None) -> None:
    """Say each count, with the published one where it differs, and what that means.

    Args:
        counts: name -> number; those of single genres are told only where they differ.
        published_counts: of the whole corpus, by the same names.
        demanded_of: a corpus that must have the published counts.

    Raises:
        DataErrors: it hasn't.
    """
    differing, nearly = [], False
    for name, count in counts.items():
        published = published_counts[name]
        if count != published:
            nearly |= NEARLY * published <= count < published
            differing.append(f"{name}: {count:,} (published: {published:,})")
        elif " of genre " not in name:
            log.info("%s: %s", name, f"{count:,}")
    if demanded_of is not None:
        raise_all([DataError(demanded_of, fault) for fault in differing])
    for fault in differing:
        log.warning("%s", fault)
    if not differing:
        log.info("all %d counts are those of the published corpora", len(counts))
        return
    meaning = ("nearly complete: was everything unpacked?" if nearly else
               "a part, a miniature or another release of them")
    log.warning("%d of %d counts are not those of the published corpora: %s; results don't compare with published ones",
                len(differing), len(counts), meaning)


def join_training(training: list[Recording], shortest_s: float, nj: int) -> Joined:
    """Join recordings of one speaker and genre until each utterance is long enough; say what came of it."""
    joined = join_short(training, (genre_of(recording_name(recording)) for recording in training), shortest_s, nj)
    log.info("%s recordings (%.1f h) joined to %s utterances of at least %g s where a speaker's genre has as much",
             f"{len(training):,}", joined.seconds / 3600, f"{len(joined.utt2spk):,}", shortest_s)
    if joined.num_unreadable:
        log.warning("%d recordings whose header can't be read are joined to none", joined.num_unreadable)
    return joined


def prepare(args: argparse.Namespace) -> None:
    corpus_dir, train_dir, eval_dir = Path(args.corpus_dir), Path(args.train_dir), Path(args.eval_dir)
    training, counts = read_training_sets(corpus_dir, args.train_sets == "both")
    tree = find_tree(corpus_dir, CNCELEB1)
    evaluation = read_evaluation(tree)
    check_disjoint(training, evaluation, corpus_dir)
    counts |= count_cnceleb1(tree, {recording.spk_id for recording in training}) | count_evaluation(evaluation)
    if args.train_sets == "both":
        counts |= {"training speakers": len({recording.spk_id for recording in training}),
                   "training utterances": len(training)}
    joined = join_training(training, args.join_below, args.nj) if args.join_below else None
    if joined and args.train_sets == "both" and args.join_below == WHOLE_JOIN_S:
        counts["joined training utterances"] = len(joined.utt2spk)
    args.report |= {name.replace(" ", "_").replace("-", "_").lower(): count for name, count in counts.items()}
    tell_counts(counts, demanded_of=corpus_dir if args.require_published else None)
    write_recordings(train_dir, training, joined)
    del training, joined  # what validate reads back needs the room
    write_evaluation(eval_dir, evaluation)
    write_trials(eval_dir / "trials.speech", (trial for trial in evaluation.trials if is_speech(trial[1])))
    write_conditions(eval_dir, evaluation, args.nj)
    validate([train_dir, eval_dir])


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "prepare_cnceleb.py", formats=FORMATS,
        summary="Make data directories from CN-Celeb 1 and 2 as they unpack (FLAC, or WAV as in the first release).",
        example="local/prepare_cnceleb.py corpora/cnceleb data/train data/eval")
    parser.add_argument("corpus_dir", metavar="CORPUS_DIR", help="holds CN-Celeb_flac and CN-Celeb2_flac")
    parser.add_argument("train_dir", metavar="TRAIN_DIR", help="data directory to write, for training")
    parser.add_argument("eval_dir", metavar="EVAL_DIR", help="data directory to write, for evaluation")
    parser.add_argument("--train-sets", choices=("both", "cnceleb1"), default="both",
                        help="CN-Celeb1 dev and CN-Celeb2, or the first alone (default: both)")
    parser.add_argument("--join-below", type=entry.number(float, 0, 3600), default=0.0, metavar="SECONDS",
                        help="join shorter training recordings to others of their speaker and genre (default: 0, none)")
    parser.add_argument("--require-published", action="store_true",
                        help="refuse a corpus whose counts aren't the published ones, instead of a warning")
    entry.add_nj_option(parser)
    return entry.run(parser, prepare, argv)


if __name__ == "__main__":
    sys.exit(main())
