"""AliMeeting as it unpacks -> data directories of single-speaker utterances, near and far.

One annotation serves both fields (see alimeeting_corpus.py), so an utterance of a headset and the same one of
the array differ in `near` and `far` in their ids only: SPK0093-R0003_M0046-far-009675-011028, times in
hundredths of a second. Persons keep their label across meetings; --labels meetings gives those of the
reference system instead, a class for each person in each meeting.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from alimeeting_corpus import OVERHANGING, Corpus, ReadOptions, Session, gender_conflicts, read_corpus
from alimeeting_data import Utterance, find_stretches, make_utterances, write_utterances
from alimeeting_files import FIELDS, SETS
from alimeeting_protocol import HELD_OUT_SHARE, hold_out, speakers_in_several_sessions
from prepare_cnceleb import tell_counts, validate
from speakerkit.cli import entry
from speakerkit.errors import ConfigError, DataError, DataErrors, raise_all

log = entry.log

# Counted by others in the released annotation and audio (DiariZen, diar-forced-alignment, an audit of Train).
PUBLISHED_COUNTS = {
    "Train sessions": 209, "Train speakers": 452, "Train speakers of each session": 683,
    "Train speakers in two or more sessions": 227,
    "Eval sessions": 8, "Eval speakers": 25, "Eval speakers of each session": 25, "Eval intervals": 6_457,
    "Test sessions": 20, "Test speakers": 60, "Test speakers of each session": 60, "Test intervals": 16_358}
REFERENCE_CLASSES = {"Train": 680, "Eval": 25}   # per-meeting labels of the reference system

FORMATS = """\
CORPUS_DIR  Train_Ali_far Train_Ali_near Eval_Ali/Eval_Ali_{far,near} Test_Ali/Test_Ali_{far,near}, each with
            audio_dir and textgrid_dir; Train_Ali/Train_Ali_far and Eval_Ali_far without Eval_Ali do as well
DATA_DIR    train, eval, test: wav.scp segments utt2spk spk2utt, and '<utt-id> <value>' tables
            utt2condition (near, far), utt2session, utt2room, utt2gender (f, m, unknown), utt2dur (seconds)
Far recordings have 8 channels: read them with --channel N, mix, or (train-model) random."""


def tell_faults(corpus: Corpus, allowed_bad, report: dict) -> None:
    """Say what was left out and why; refuse more faulty sessions than are allowed.

    Raises:
        DataErrors: the faults.
    """
    for session_id, why in corpus.left_out.items():
        log.warning("%s: left out, a known defect: %s; --keep-defective trims and keeps it", session_id, why)
    total = len(corpus.sessions) + len(corpus.left_out) + len(corpus.faults)
    faults = [fault for found in corpus.faults.values() for fault in found]
    report |= {"num_sessions": len(corpus.sessions), "num_left_out": len(corpus.left_out),
               "num_faulty_sessions": len(corpus.faults)}
    if faults and (len(corpus.faults) > allowed_bad(total) or not corpus.sessions):
        raise DataErrors([*faults, DataError(
            faults[0].path, f"{len(corpus.faults)} of {total} sessions can't be used; --max-bad {len(corpus.faults)} "
                            "does without them")])
    for fault in faults:
        log.warning("left out: %s", fault)
    for kind, count in sorted((+corpus.notes).items()):
        log.info("%s: %s", kind, f"{count:,}")
    for spk_id, sessions in gender_conflicts(corpus.sessions).items():
        log.warning("%s is called f and m: %s", spk_id, ", ".join(sessions))
    trimmed = OVERHANGING & {session.session_id for session in corpus.sessions}
    if trimmed:
        log.info("%d sessions are known for annotation that ends after their audio: %s", len(trimmed),
                 ", ".join(sorted(trimmed)))


def check_disjoint(sessions: Iterable[Session], where: Path) -> None:
    """Refuse persons who are in two sets: what is evaluated on them would be too good."""
    sets: dict[str, set[str]] = {}
    for session in sessions:
        for spk_id in session.speakers:
            sets.setdefault(spk_id, set()).add(session.subset)
    raise_all([DataError(where, f"speaker '{spk_id}' is in {' and '.join(sorted(found))}")
               for spk_id, found in sorted(sets.items()) if len(found) > 1])


def count(corpus: Corpus, subsets: Iterable[str]) -> dict[str, int]:
    """What can be compared with published counts."""
    counts = {}
    for subset in subsets:
        sessions = corpus.of(subset)
        people = [session.speakers for session in sessions]
        counts |= {f"{subset} sessions": len(sessions), f"{subset} speakers": len(set().union(*people)),
                   f"{subset} speakers of each session": sum(map(len, people))}
        if subset == "Train":
            counts["Train speakers in two or more sessions"] = len(speakers_in_several_sessions(sessions))
        else:
            counts[f"{subset} intervals"] = corpus.num_intervals[subset]
    return counts


def training_sessions(sessions: Sequence[Session], share: float) -> list[Session]:
    """Train without the held-out part of the protocol: neither its sessions nor anybody who speaks in them."""
    held_out = hold_out(sessions, share)
    left_ids = {session.session_id for session in sessions} - {session.session_id for session in held_out}
    left = [session for session in sessions if session.session_id in left_ids]
    both = ({spk_id for session in held_out for spk_id in session.speakers}
            & {spk_id for session in left for spk_id in session.speakers})
    assert not both, "groups share nobody"
    if held_out:
        log.info("%d Train sessions and %d speakers are held out for cross-session trials", len(held_out),
                 len({spk_id for session in held_out for spk_id in session.speakers}))
    return left


def make_set(sessions: Iterable[Session], args: argparse.Namespace, notes: Counter) -> list[Utterance]:
    """The utterances of some sessions, as the options say."""
    shortest = round(100 * args.min_duration)
    longest = None if args.max_duration is None else round(100 * args.max_duration)
    return [utterance for session in sessions
            for utterance in make_utterances(session, find_stretches(session, args.segments, shortest, longest),
                                             args.fields, args.labels == "meetings", shortest, notes)]


def prepare(args: argparse.Namespace) -> None:
    if args.max_duration is not None and args.max_duration < 2 * args.min_duration:
        raise ConfigError(f"--max-duration {args.max_duration:g} is less than twice --min-duration "
                          f"{args.min_duration:g}: the parts of a long stretch would be too short")
    corpus_dir, data_dir = Path(args.corpus_dir), Path(args.data_dir)
    corpus = read_corpus(corpus_dir, args.sets, read_options(args))
    tell_faults(corpus, entry.max_bad(args), args.report)
    check_disjoint(corpus.sessions, corpus_dir)
    subsets = [subset for subset in SETS if corpus.of(subset)]
    for subset in set(args.sets) - set(subsets):
        log.warning("%s_Ali isn't in %s: no data directory is made of it", subset, corpus_dir)
    notes: Counter = Counter()
    made = {}
    for subset in subsets:
        sessions = corpus.of(subset)
        if subset == "Train":
            sessions = training_sessions(sessions, args.held_out)
        made[subset] = make_set(sessions, args, notes)
        if not made[subset]:
            raise DataError(corpus_dir, f"{subset} has no stretch of {args.min_duration:g} s that is left to use")
    for subset, utterances in made.items():
        write_utterances(data_dir / subset.lower(), utterances)
        tell_classes(subset, utterances, args)
        args.report |= {f"num_{subset.lower()}_utterances": len(utterances),
                        f"num_{subset.lower()}_speakers": len({utterance.spk_id for utterance in utterances})}
    for kind, number in notes.items():
        log.info("%s: %s", kind, f"{number:,}")
    tell_counts(count(corpus, subsets), PUBLISHED_COUNTS)
    validate([data_dir / subset.lower() for subset in made])


def tell_classes(subset: str, utterances: Sequence[Utterance], args: argparse.Namespace) -> None:
    """Say a set's size, and where the reference's classes are made also whether they are as many."""
    hours = sum(utterance.duration_s for utterance in utterances) / 3600
    classes = len({utterance.spk_id for utterance in utterances})
    log.info("%s: %s utterances, %.2f hours, %d classes", subset, f"{len(utterances):,}", hours, classes)
    expected = REFERENCE_CLASSES.get(subset)
    if args.labels == "meetings" and expected not in (None, classes):
        log.warning("%s has %d classes; the reference system: %d", subset, classes, expected)


def words(known: tuple[str, ...]):
    """An argparse type: some of the known words, with commas between them."""
    def parse(text: str) -> tuple[str, ...]:
        given = tuple(text.split(","))
        if not set(given) <= set(known) or len(set(given)) < len(given):
            raise argparse.ArgumentTypeError(f"{text!r} is not some of {','.join(known)}")
        return given
    return parse


def add_reading_options(parser: argparse.ArgumentParser, sets: bool = True) -> None:
    """What `read_options` reads, --held-out, --max-bad and, if wanted, --sets."""
    if sets:
        parser.add_argument("--sets", type=words(SETS), default=SETS, metavar="Train,Eval,Test",
                            help="which are made, if they are there (default: all)")
    parser.add_argument("--fields", type=words(FIELDS), default=FIELDS, metavar="far,near",
                        help="the array, the headsets (default: both)")
    parser.add_argument("--held-out", type=entry.number(float, 0, 1), default=HELD_OUT_SHARE, metavar="SHARE",
                        help="of the Train speakers with several sessions, who are kept for cross-session trials and "
                             "out of training (default: %(default)s, the protocol's)")
    parser.add_argument("--strict", action="store_true", help="refuse what is odd in a TextGrid")
    parser.add_argument("--keep-defective", action="store_true",
                        help="use sessions whose annotation doesn't match their audio, trimmed to it")
    parser.add_argument("--encoding", metavar="NAME", help="of the TextGrids, where they are neither UTF-8 nor UTF-16")
    entry.add_max_bad_option(parser, "faulty sessions")


def read_options(args: argparse.Namespace) -> ReadOptions:
    """How the corpus is read, by what `add_reading_options` added."""
    return ReadOptions(args.fields, args.encoding, args.strict, args.keep_defective)


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "prepare_alimeeting.py", formats=FORMATS,
        summary="Make data directories from AliMeeting as it unpacks: utterances in which one person speaks alone.",
        example="local/prepare_alimeeting.py corpora/alimeeting data")
    parser.add_argument("corpus_dir", metavar="CORPUS_DIR", help="holds Train_Ali_far, Eval_Ali, ...")
    parser.add_argument("data_dir", metavar="DATA_DIR", help="gets train, eval and test")
    parser.add_argument("--segments", choices=("stretches", "whole"), default="stretches",
                        help="turns cut where others join in, or annotated segments that overlap nothing "
                             "(default: %(default)s)")
    parser.add_argument("--min-duration", type=entry.number(float, 0.3, 1e4), default=2.0, metavar="SECONDS",
                        help="shorter ones are left out (default: %(default)s, as the reference system's were)")
    parser.add_argument("--max-duration", type=entry.number(float, 0.6, 1e4), metavar="SECONDS",
                        help="longer ones are cut into equal parts (default: no limit; the longest have 16 s)")
    parser.add_argument("--labels", choices=("speakers", "meetings"), default="speakers",
                        help="classes are persons, or persons in a meeting, as the reference system's "
                             "(default: %(default)s)")
    add_reading_options(parser)
    return entry.run(parser, prepare, argv)


if __name__ == "__main__":
    sys.exit(main())
