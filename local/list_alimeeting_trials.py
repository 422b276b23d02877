"""The trial lists of AliMeeting's verification protocol; what they hold is defined in alimeeting_protocol.py."""

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from alimeeting_corpus import Corpus, Session, read_corpus
from alimeeting_data import Utterance, describe, find_stretches, make_utterances, person_and_time, write_utterances
from alimeeting_protocol import (
    CONDITIONS,
    EXPECTED,
    HELD_OUT_SHARE,
    KEPT_ONE_IN,
    MIN_LENGTH,
    PROTOCOL,
    Pairs,
    hold_out,
    list_pairs,
    speakers_in_several_sessions,
)
from prepare_alimeeting import add_reading_options, check_disjoint, read_options, tell_faults
from prepare_cnceleb import validate
from speakerkit.cli import entry
from speakerkit.errors import DataError

log = entry.log

FORMATS = """\
PROTOCOL_DIR  test.far-far test.near-near test.near-far heldout.far-far heldout.near-near heldout.near-far:
              '<enrol-id> <test-id> target|nontarget' a line
              far, near: data directories of their utterances (wav.scp segments utt2spk spk2utt); extract
              those of far with --channel N or mix
              utt2condition utt2session utt2room utt2gender utt2dur: '<utt-id> <value>' lines, for
              break-down-results --nontargets-by pair=utt2session
              protocol.json: rules, counts and the SHA-256 of every list"""


@dataclasses.dataclass(frozen=True)
class Part:
    """Test, or the held-out part of Train: stretches by name, each with its utterance a field."""

    name: str
    names: list[str]
    utterances: dict[str, dict[str, Utterance]]   # name -> field -> utterance
    pairs: Pairs


def make_part(name: str, sessions: Iterable[Session], fields: Sequence[str], min_length: int, show: bool) -> Part:
    """The stretches of some sessions and the pairs among them."""
    from tqdm import tqdm

    def progress(places):
        return tqdm(places, desc=f"pairs of {name}", disable=None if show else True, leave=False)

    found: dict[str, dict[str, Utterance]] = {}
    for session in sessions:
        for stretch in find_stretches(session, "stretches", min_length):
            made = make_utterances(session, [stretch], fields, False, stretch.end - stretch.start, Counter())
            if len(made) == len(fields):  # each field has it whole
                found["-".join(person_and_time(session, stretch))] = {utterance.field: utterance for utterance in made}
    names = sorted(found)
    utterances = [next(iter(found[stretch].values())) for stretch in names]
    pairs = list_pairs(names, [utterance.spk_id for utterance in utterances],
                       [utterance.session.session_id for utterance in utterances], name == "test", progress=progress)
    return Part(name, names, found, pairs)


def trial_lines(part: Part, condition: str) -> Iterator[str]:
    """The lines of one list."""
    enrol, test = ([part.utterances[name][field].utt_id for name in part.names] for field in CONDITIONS[condition])
    for a, b, is_target in zip(part.pairs.enrol.tolist(), part.pairs.test.tolist(), part.pairs.is_target.tolist(),
                               strict=True):
        yield f"{enrol[a]} {test[b]} {'target' if is_target else 'nontarget'}\n"


def count_pairs(part: Part) -> dict[str, int]:
    """How many of which kind; the same in every condition."""
    target, same = part.pairs.is_target, part.pairs.same_session
    return {"num_trials": len(target), "num_target": int(target.sum()),
            "num_nontarget_same_session": int((~target & same).sum()),
            "num_nontarget_across_sessions": int((~target & ~same).sum())}


def summarise(part: Part) -> dict:
    """A part's facts for protocol.json."""
    utterances = [next(iter(fields.values())) for fields in part.utterances.values()]
    return {"speakers": sorted({utterance.spk_id for utterance in utterances}),
            "sessions": sorted({utterance.session.session_id for utterance in utterances}),
            "num_stretches": len(part.names),
            "hours": round(sum(utterance.duration_s for utterance in utterances) / 3600, 3)} | count_pairs(part)


def compare_with_expected(corpus: Corpus, parts: Sequence[Part], is_standard: bool) -> dict[str, dict[str, int]]:
    """What others counted in the real corpus against what is here; said where it differs."""
    test = next(part for part in parts if part.name == "test")
    counts = count_pairs(test)
    here = {"test speakers": len(summarise(test)["speakers"]), "test stretches": len(test.names),
            "test target pairs": counts["num_target"],
            "test nontarget pairs of the same session": counts["num_nontarget_same_session"]}
    if corpus.of("Train"):
        here["train speakers in two or more sessions"] = len(speakers_in_several_sessions(corpus.of("Train")))
    for name, number in here.items():
        log.info("%s: %s%s", name, f"{number:,}", "" if number == EXPECTED[name] else
                 f" (expected of the real corpus: {EXPECTED[name]:,})")
    if not is_standard or any(number != EXPECTED[name] for name, number in here.items()):
        why = "this isn't the whole corpus" if is_standard else "other options than the protocol's"
        log.warning("%s: results on these lists don't compare with those on the protocol's", why)
    return {name: {"here": number, "expected": EXPECTED[name]} for name, number in here.items()}


def make_parts(corpus: Corpus, corpus_dir: Path, args: argparse.Namespace) -> list[Part]:
    """The test part and, unless nobody is held out, the held-out part.

    Raises:
        DataError: a part without target or without nontarget pairs.
    """
    chosen = {"test": corpus.of("Test"), "heldout": hold_out(corpus.of("Train"), args.held_out)}
    parts = [make_part(name, sessions, args.fields, round(100 * args.min_duration), not args.quiet)
             for name, sessions in chosen.items() if sessions or name == "test"]
    for part in parts:
        if part.pairs.is_target.all() or not part.pairs.is_target.any():
            hint = "; --held-out 0 does without this part" if part.name == "heldout" else ""
            raise DataError(corpus_dir, f"the {part.name} part has {len(part.names)} stretches of at least "
                                        f"{args.min_duration:g} s, and no pairs of both kinds{hint}")
    return parts


def write_lists(folder: Path, parts: Iterable[Part], fields: Sequence[str]) -> dict[str, dict]:
    """Write each part's list in each condition that the fields allow; name -> its SHA-256 and counts."""
    from speakerkit.io.files import open_output, sha256_file

    lists = {}
    for part in parts:
        for condition, heard in CONDITIONS.items():
            if set(heard) <= set(fields):
                path = folder / f"{part.name}.{condition}"
                with open_output(path, "w") as stream:
                    stream.writelines(trial_lines(part, condition))
                lists[path.name] = {"sha256": sha256_file(path)} | count_pairs(part)
        log.info("%s part: %d stretches, %s", part.name, len(part.names),
                 ", ".join(f"{name} {number:,}" for name, number in count_pairs(part).items()))
    return lists


def list_trials(args: argparse.Namespace) -> None:
    from speakerkit.io.files import write_json
    from speakerkit.io.tables import sort_key, write_table

    corpus_dir, folder = Path(args.corpus_dir), Path(args.protocol_dir)
    subsets = ("Train", "Test") if args.held_out > 0 else ("Test",)
    corpus = read_corpus(corpus_dir, subsets, read_options(args))
    tell_faults(corpus, entry.max_bad(args), args.report)
    check_disjoint(corpus.sessions, corpus_dir)
    if not corpus.of("Test"):
        raise DataError(corpus_dir, "has no Test_Ali; the protocol needs it")
    parts = make_parts(corpus, corpus_dir, args)
    utterances = [one for part in parts for fields in part.utterances.values() for one in fields.values()]
    for field in args.fields:
        write_utterances(folder / field, [utterance for utterance in utterances if utterance.field == field])
    for name, table in describe(utterances).items():
        write_table(folder / name, sorted(table.items(), key=lambda item: sort_key(item[0])))
    lists = write_lists(folder, parts, args.fields)
    is_standard = (args.held_out == HELD_OUT_SHARE and args.min_duration == MIN_LENGTH / 100
                   and not args.keep_defective and len(args.fields) == 2)
    write_json(folder / "protocol.json", {
        "protocol": PROTOCOL, "definition": "local/alimeeting_protocol.py", "is_standard": is_standard,
        "min_duration_s": args.min_duration, "held_out_share": args.held_out,
        "kept_one_in_across_sessions": KEPT_ONE_IN, "left_out_sessions": corpus.left_out,
        "faulty_sessions": sorted(corpus.faults), "counts": compare_with_expected(corpus, parts, is_standard),
        "parts": {part.name: summarise(part) for part in parts}, "lists": lists})
    args.report |= {"is_standard": is_standard} | {f"sha256_{name}": facts["sha256"] for name, facts in lists.items()}
    validate([folder / field for field in args.fields])


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "list_alimeeting_trials.py", formats=FORMATS,
        summary="Write the trial lists of AliMeeting's verification protocol, with their checksums and counts.",
        example="local/list_alimeeting_trials.py corpora/alimeeting data/protocol")
    parser.add_argument("corpus_dir", metavar="CORPUS_DIR", help="holds Test_Ali and, for the held-out part, Train")
    parser.add_argument("protocol_dir", metavar="PROTOCOL_DIR", help="the folder to write")
    parser.add_argument("--min-duration", type=entry.number(float, 0.3, 1e4), default=MIN_LENGTH / 100,
                        metavar="SECONDS", help="of a stretch (default: %(default)s, the protocol's)")
    add_reading_options(parser, sets=False)
    return entry.run(parser, list_trials, argv)


if __name__ == "__main__":
    sys.exit(main())
