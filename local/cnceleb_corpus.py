"""How CN-Celeb 1 and 2 lie on disk once they are unpacked: folders, names, lists, and what is published of them.

The lists of CN-Celeb say .wav where the files are .flac, so files are found by their name without
its ending. Utterance names repeat across speakers; an utterance id is the speaker's, a hyphen and
the name: data/id00000/singing-01-001.flac is id00000-singing-01-001.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from speakerkit.errors import DataError, raise_all

if TYPE_CHECKING:
    from speakerkit.io.trials import Trials

CNCELEB1 = ("CN-Celeb_flac", "CN-Celeb1", "CN-Celeb")  # folder names of the releases; the first is today's
CNCELEB2 = ("CN-Celeb2_flac", "CN-Celeb2")
AUDIO_ENDINGS = (".flac", ".wav")
SPEECH_GENRE = "speech"   # the reference system scores the trials whose test utterance has this genre


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
    trials: "TrialRows | list[tuple[str, str, bool]]"   # enrolment id, test id, same speaker?


class TrialRows:
    """Millions of trials as (enrolment id, test id, same speaker?), without a tuple for each kept."""

    def __init__(self, trials: "Trials"):
        self.trials = trials

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[tuple[str, str, bool]]:
        enrol_ids, test_ids = self.trials.enrol_ids, self.trials.test_ids
        block = 100_000
        for start in range(0, len(self), block):
            columns = (column[start:start + block].tolist() for column in
                       (self.trials.enrol_index, self.trials.test_index, self.trials.is_target))
            for i, j, is_target in zip(*columns, strict=True):
                yield enrol_ids[i], test_ids[j], is_target


def find_tree(corpus_dir: Path, names: tuple[str, ...]) -> Path:
    """The first of the named folders that is there."""
    for name in names:
        if (corpus_dir / name / "data").is_dir():
            return corpus_dir / name
    hint = f"; it is such a folder itself: give {corpus_dir.absolute().parent}" if corpus_dir.name in names else ""
    raise DataError(corpus_dir, f"has no folder {names[0]} with a data folder in it{hint}")


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
        DataErrors: speakers of the list that have no folder in data/ or no recording in it, or are listed twice.
    """
    recordings, faults, seen = [], [], {}
    for number, (spk_id, *_) in read_fields(speaker_list):
        if spk_id in seen:
            faults.append(DataError(speaker_list, f"'{spk_id}' again; first on line {seen[spk_id]}", number))
            continue
        seen[spk_id] = number
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


def check_labels(given: "Trials", enrol: list[Recording], test: list[Recording]) -> None:
    """A trial is a target where both ids are of one speaker, and only there.

    Raises:
        DataError: the first label that says something else.
    """
    import numpy as np

    numbers = {spk_id: number for number, spk_id in enumerate({recording.spk_id for recording in [*enrol, *test]})}
    enrol_speakers, test_speakers = (np.array([numbers[recording.spk_id] for recording in recordings])
                                     for recordings in (enrol, test))
    is_same = enrol_speakers[given.enrol_index] == test_speakers[given.test_index]
    if (wrong := np.flatnonzero(is_same != given.is_target)).size:
        first = int(wrong[0])
        i, j = given.enrol_index[first], given.test_index[first]
        wanted = "target" if is_same[first] else "nontarget"
        raise DataError(given.path, f"label of {enrol[i].utt_id} and {test[j].utt_id}; wanted {wanted}", first + 1)


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
    check_labels(given, enrol, test)
    trials = dataclasses.replace(given, enrol_ids=[recording.utt_id for recording in enrol],
                                 test_ids=[recording.utt_id for recording in test])
    sources = read_enrolment_sources(tree, list(enrolments.values()))
    return Evaluation(list(enrolments.values()), list(tests.values()), sources, TrialRows(trials))


# ---- what is published

# Counted in the unpacked second release; "all" is CN-Celeb1's data/, "test" its eval/test.
GENRES = {  # name -> (utterances of all, of test)
    "interview": (59_556, 6_175), "entertainment": (22_137, 3_434), "singing": (12_561, 2_017),
    "live_broadcast": (8_747, 2_304), "speech": (8_404, 2_089), "drama": (4_994, 661), "play": (4_244, 50),
    "recitation": (2_747, 105), "vlog": (1_894, 776), "movie": (1_127, 146), "advertisement": (121, 20)}
PUBLISHED_COUNTS = {
    "CN-Celeb1 speakers": 997, "CN-Celeb1 utterances": 126_532,
    "CN-Celeb1 training speakers": 797, "CN-Celeb1 training utterances": 107_953,
    "CN-Celeb1 evaluation speakers": 200, "CN-Celeb1 evaluation utterances": 18_579,
    "CN-Celeb2 training speakers": 1_996, "CN-Celeb2 training utterances": 524_787,
    "training speakers": 2_793, "training utterances": 632_740, "joined training utterances": 508_228,
    "enrolments": 196, "test speakers": 200, "test utterances": 17_777,
    "trials": 3_484_292, "target trials": 17_755, "nontarget trials": 3_466_537, "speech trials": 409_444,
} | {f"{name} of genre {genre}": counts[place] for place, name in enumerate(("CN-Celeb1 utterances", "test utterances"))
     for genre, counts in GENRES.items()}


def genre_of(name: str) -> str:
    """What comes before the first hyphen of a recording's name, GENRE-NN-NNN."""
    return name.partition("-")[0]


def recording_name(recording: Recording) -> str:
    """GENRE-NN-NNN of an utterance id."""
    return recording.utt_id.removeprefix(f"{recording.spk_id}-")


def count_evaluation(evaluation: Evaluation) -> dict[str, int]:
    """Counts of the evaluation part, named as the published ones."""
    num_target = num_speech = 0
    for _, test_id, is_target in evaluation.trials:
        num_target += is_target
        num_speech += is_speech(test_id)
    counts = {"enrolments": len(evaluation.enrolments), "test utterances": len(evaluation.tests),
              "test speakers": len({test.spk_id for test in evaluation.tests}), "trials": len(evaluation.trials),
              "target trials": num_target, "nontarget trials": len(evaluation.trials) - num_target,
              "speech trials": num_speech}
    genres = Counter(genre_of(recording_name(test)) for test in evaluation.tests)
    return counts | {f"test utterances of genre {genre}": genres[genre] for genre in GENRES}


def is_speech(test_id: str) -> bool:
    """Whether a trial is of the reference's subset: its recipe takes the lines of the list that hold `speech`."""
    return SPEECH_GENRE in test_id


def count_cnceleb1(tree: Path, training_speakers: set[str]) -> dict[str, int]:
    """Counts of all of CN-Celeb1's data/ and of those who aren't training speakers."""
    genres, speakers, counts = Counter(), 0, Counter()
    for folder in os.scandir(tree / "data"):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        names = audio_files(Path(folder.path))
        genres.update(map(genre_of, names))
        speakers += 1
        if folder.name not in training_speakers:
            counts += Counter({"CN-Celeb1 evaluation speakers": 1, "CN-Celeb1 evaluation utterances": len(names)})
    return {"CN-Celeb1 speakers": speakers, "CN-Celeb1 utterances": genres.total(), **counts,
            **{f"CN-Celeb1 utterances of genre {genre}": genres[genre] for genre in GENRES}}
