"""CN-Celeb 1 and 2 as they unpack -> data directories for training and evaluation.

The lists of CN-Celeb say .wav where the files are .flac, so files are found by their name without
its ending. Utterance names repeat across speakers; an utterance id is the speaker's, a hyphen and
the name: data/id00000/singing-01-001.flac is id00000-singing-01-001.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from speakerkit.cli import entry
from speakerkit.errors import DataError, raise_all

log = entry.log

CNCELEB1 = ("CN-Celeb_flac", "CN-Celeb1", "CN-Celeb")  # folder names of the releases; the first is today's
CNCELEB2 = ("CN-Celeb2_flac", "CN-Celeb2")
AUDIO_ENDINGS = (".flac", ".wav")
SPEECH_GENRE = "speech"   # the reference system scores the trials whose test utterance has this genre
PUBLISHED_COUNTS = {
    "CN-Celeb1 training speakers": 797, "CN-Celeb1 training utterances": 107_953,
    "CN-Celeb2 training speakers": 1_996, "CN-Celeb2 training utterances": 524_787,
    "enrolments": 196, "test utterances": 17_777, "trials": 3_484_292, "target trials": 17_755}

FORMATS = """\
TRAIN_DIR  wav.scp utt2spk spk2utt of all training speakers
EVAL_DIR   wav.scp utt2spk spk2utt of the enrolment files, the test files and the utterances that the
           enrolment files were made of; trials ('<enrol-id> <test-id> target|nontarget'), trials.speech
           (those with a test utterance of genre speech), enroll.map ('<enrol-id> <utt-id>...')"""


class Recording(NamedTuple):
    """One utterance of one speaker and where it lies."""

    utt_id: str
    spk_id: str
    path: str


class Evaluation(NamedTuple):
    """What is enrolled, what is tested against it, and which pairs."""

    enrolments: list[Recording]
    tests: list[Recording]
    sources: dict[str, list[Recording]]    # enrolment id -> the recordings that its embedding may be the mean of
    trials: list[tuple[str, str, bool]]    # enrolment id, test id, same speaker?


def find_tree(corpus_dir: Path, names: tuple[str, ...]) -> Path:
    """The first of the named folders that is there."""
    for name in names:
        if (corpus_dir / name / "data").is_dir():
            return corpus_dir / name
    raise DataError(corpus_dir, f"has no folder {names[0]} with a data folder in it")


def audio_files(folder: Path, endings: tuple[str, ...] = AUDIO_ENDINGS) -> dict[str, str]:
    """The recordings directly in a folder: name without ending -> absolute path, in no order.

    Raises:
        DataError: no such folder, or one name with two endings.
    """
    found: dict[str, str] = {}
    try:
        with os.scandir(os.path.abspath(folder)) as entries:
            for item in entries:
                name, ending = os.path.splitext(item.name)
                if ending in endings and not name.startswith("."):
                    if name in found:
                        raise DataError(folder, f"'{name}' is there with two endings; keep one of them")
                    found[name] = item.path
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(folder, "no such folder") from None
    return found


def read_fields(path: Path, at_least: int = 1) -> Iterator[tuple[int, list[str]]]:
    """The fields of each line of a short list, with the line's number."""
    from speakerkit.io.tables import read_lines, split_fields

    for number, line in read_lines(path):
        fields = split_fields(line)
        if len(fields) < at_least:
            raise DataError(path, f"{len(fields)} field; wanted at least {at_least}", number)
        yield number, fields


def read_training(tree: Path, speaker_list: Path) -> list[Recording]:
    """All recordings of the speakers that a list names, one id a line.

    Raises:
        DataErrors: speakers of the list that have no folder in data/ or no recording in it.
    """
    recordings, faults = [], []
    for number, (spk_id, *_) in read_fields(speaker_list):
        try:
            files = audio_files(tree / "data" / spk_id)
        except DataError as fault:
            faults.append(DataError(speaker_list, f"'{spk_id}': {fault}", number))
            continue
        if not files:
            faults.append(DataError(speaker_list, f"'{spk_id}' has no recording in {tree / 'data'}", number))
        recordings += [Recording(f"{spk_id}-{name}", spk_id, path) for name, path in files.items()]
    raise_all(faults)
    return recordings


def read_training_sets(corpus_dir: Path, with_cnceleb2: bool = True) -> tuple[list[Recording], dict[str, int]]:
    """The training part of CN-Celeb1 and, if wanted, CN-Celeb2; and its counts, named as the published ones."""
    training, counts = [], {}
    for name, folders, speaker_list in (("CN-Celeb1", CNCELEB1, "dev/dev.lst"), ("CN-Celeb2", CNCELEB2, "spk.lst")):
        if name == "CN-Celeb2" and not with_cnceleb2:
            continue
        tree = find_tree(corpus_dir, folders)
        found = read_training(tree, tree / speaker_list)
        counts[f"{name} training speakers"] = len({recording.spk_id for recording in found})
        counts[f"{name} training utterances"] = len(found)
        training += found
    return training, counts


def read_listed(eval_dir: Path, list_name: str, folder: str) -> dict[str, Recording]:
    """The recordings of eval/enroll or eval/test that a list names: the path in the list -> recording.

    Raises:
        DataErrors: lines whose file is not there.
    """
    path = eval_dir / "lists" / list_name
    files, found, faults = audio_files(eval_dir / folder), {}, []
    for number, fields in read_fields(path):
        name = os.path.splitext(os.path.basename(fields[-1]))[0]
        if name not in files:
            faults.append(DataError(path, f"'{fields[-1]}' is not in {eval_dir / folder}, with any ending", number))
            continue
        found[fields[0]] = Recording(name, name.split("-")[0], files[name])
    raise_all(faults)
    return found


def read_enrolment_sources(tree: Path, enrolments: list[Recording]) -> dict[str, list[Recording]]:
    """eval/lists/enroll.map: enrolment id -> the recordings in data/ that its file was made of.

    Raises:
        DataErrors: a source that isn't there or is another speaker's, an enrolment that isn't listed.
    """
    path = tree / "eval" / "lists" / "enroll.map"
    speakers = {enrolment.utt_id: enrolment.spk_id for enrolment in enrolments}
    sources, faults = {}, []
    for number, (enrol_id, *names) in read_fields(path, at_least=2):
        if enrol_id not in speakers:
            faults.append(DataError(path, f"'{enrol_id}' is not in enroll.lst", number))
            continue
        spk_id = speakers[enrol_id]
        files = audio_files(tree / "data" / spk_id)
        sources[enrol_id] = []
        for name in names:
            speaker, _, file_name = os.path.splitext(name)[0].rpartition("/")
            if speaker != spk_id or file_name not in files:
                faults.append(DataError(path, f"'{name}' is no recording of {spk_id} in {tree / 'data'}", number))
                continue
            sources[enrol_id].append(Recording(f"{spk_id}-{file_name}", spk_id, files[file_name]))
    faults += [DataError(path, f"has no line for '{enrol_id}' of enroll.lst")
               for enrol_id in speakers if enrol_id not in sources]
    raise_all(faults)
    return sources


def read_evaluation(tree: Path) -> Evaluation:
    """The evaluation part of CN-Celeb1; trials in their list's order.

    Raises:
        DataErrors: files that aren't there, trials that name none, labels that contradict the ids.
    """
    from speakerkit.io.trials import read_trials

    enrolments = read_listed(tree / "eval", "enroll.lst", "enroll")
    tests = read_listed(tree / "eval", "test.lst", "test")
    given = read_trials(tree / "eval" / "lists" / "trials.lst")
    if given.is_target is None:
        raise DataError(given.path, "no labels; wanted '<enrol-id> <test path> 1|0' a line")
    faults = [DataError(given.path, f"'{name}' is not in {known}", int((index == number).argmax()) + 1)
              for names, index, recordings, known in (
                  (given.enrol_ids, given.enrol_index, enrolments, "enroll.lst"),
                  (given.test_ids, given.test_index, tests, "test.lst"))
              for number, name in enumerate(names) if name not in recordings]
    raise_all(faults)
    enrol = [enrolments[name] for name in given.enrol_ids]
    test = [tests[name] for name in given.test_ids]
    trials = []
    rows = zip(given.enrol_index.tolist(), given.test_index.tolist(), given.is_target.tolist(), strict=True)
    for line, (i, j, is_target) in enumerate(rows, 1):
        if (enrol[i].spk_id == test[j].spk_id) != is_target:
            wanted = "target" if not is_target else "nontarget"
            raise DataError(given.path, f"label of {enrol[i].utt_id} and {test[j].utt_id}; wanted {wanted}", line)
        trials.append((enrol[i].utt_id, test[j].utt_id, is_target))
    sources = read_enrolment_sources(tree, list(enrolments.values()))
    return Evaluation(list(enrolments.values()), list(tests.values()), sources, trials)


def write_trials(path: Path, trials: Iterable[tuple[str, str, bool]]) -> None:
    """Write '<enrol-id> <test-id> target|nontarget' lines."""
    from speakerkit.io.files import open_output

    with open_output(path, "w") as stream:
        stream.writelines(f"{enrol} {test} {'target' if is_target else 'nontarget'}\n"
                          for enrol, test, is_target in trials)


def write_recordings(folder: Path, recordings: Iterable[Recording]) -> None:
    """Write wav.scp, utt2spk and spk2utt of a data directory, sorted as LC_ALL=C sorts."""
    from speakerkit.io.data_dir import write_data_dir

    by_id: dict[str, Recording] = {}
    for recording in recordings:
        by_id.setdefault(recording.utt_id, recording)
    write_data_dir(folder, wav_scp={utt_id: recording.path for utt_id, recording in by_id.items()},
                   utt2spk={utt_id: recording.spk_id for utt_id, recording in by_id.items()})


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
    from speakerkit.io.data_dir import validate_data_dir

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


def tell_counts(counts: dict[str, int], published_counts: Mapping[str, int] = PUBLISHED_COUNTS) -> None:
    """Say each count, with the published one where it differs."""
    differ = 0
    for name, count in counts.items():
        published = published_counts[name]
        differ += count != published
        log.info("%s: %s%s", name, f"{count:,}", "" if count == published else f" (published: {published:,})")
    if differ:
        log.warning("%d of %d counts are not those of the published corpora: a part or a miniature of them; "
                    "results don't compare with published ones", differ, len(counts))


def prepare(args: argparse.Namespace) -> None:
    corpus_dir, train_dir, eval_dir = Path(args.corpus_dir), Path(args.train_dir), Path(args.eval_dir)
    training, counts = read_training_sets(corpus_dir, args.train_sets == "both")
    evaluation = read_evaluation(find_tree(corpus_dir, CNCELEB1))
    check_disjoint(training, evaluation, corpus_dir)
    trials = evaluation.trials
    counts |= {"enrolments": len(evaluation.enrolments), "test utterances": len(evaluation.tests),
               "trials": len(trials), "target trials": sum(is_target for *_, is_target in trials)}
    write_recordings(train_dir, training)
    write_evaluation(eval_dir, evaluation)
    write_trials(eval_dir / "trials.speech",
                 (trial for trial in trials if trial[1].split("-")[1:2] == [SPEECH_GENRE]))
    tell_counts(counts)
    args.report |= {name.replace(" ", "_").replace("-", "_").lower(): count for name, count in counts.items()}
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
    return entry.run(parser, prepare, argv)


if __name__ == "__main__":
    sys.exit(main())
