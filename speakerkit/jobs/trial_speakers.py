"""Who speaks on either side of a trial: by a table, or by the ids, and never against the labels."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from speakerkit.errors import DataError, raise_all
from speakerkit.io.tables import read_utt2spk
from speakerkit.io.trials import Trials

ENROL_SUFFIX = "-enroll"
_EXTENSIONS = (".wav", ".flac")


@dataclass(frozen=True)
class TrialSpeakers:
    """The speakers of a list's ids, as numbers from 0.

    Attributes:
        names: (num_speakers,) in the order of their first appearance, enrolments first.
        enrol, test: (num_enrol_ids,) and (num_test_ids,) places in `names`.
        source: where they come from, in words.
    """
    names: list[str]
    enrol: np.ndarray
    test: np.ndarray
    source: str

    def of_trials(self, trials: Trials) -> tuple[np.ndarray, np.ndarray]:
        """(num_trials,) the speaker of either side of each trial."""
        return self.enrol[trials.enrol_index], self.test[trials.test_index]


def _before_hyphen(utt_id: str) -> str:
    name = utt_id.rsplit("/", 1)[-1]
    for extension in _EXTENSIONS:
        name = name.removesuffix(extension)
    return name.split("-", 1)[0]


def _before_slash(utt_id: str) -> str:
    return utt_id.split("/", 1)[0]


# Kaldi's ids begin with the speaker and '-'; VoxCeleb's are paths that begin with the speaker's folder.
_RULES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("the ids' text before the first '-'", _before_hyphen), ("the ids' text before the first '/'", _before_slash))


def find_speakers(trials: Trials, utt2spk: str | os.PathLike | None = None) -> TrialSpeakers:
    """The speakers of labelled trials.

    Args:
        trials: with labels.
        utt2spk: '<id> <spk-id>' lines; an enrolment may also be a speaker's id, with or without '-enroll'.
            None: by the first rule that agrees with all labels, the text before the first '-' of the last part
            of an id, or the text before its first '/'.

    Raises:
        DataError, DataErrors: an id that the table doesn't hold, or a target trial of two speakers or a
            nontarget trial of one, told at its line.
    """
    if utt2spk is not None:
        found = _by_table(trials, utt2spk)
        if fault := _first_conflict(trials, found):
            raise fault
        return found
    faults = []
    for source, speaker_of in _RULES:
        found = _number(map(speaker_of, trials.enrol_ids), map(speaker_of, trials.test_ids), source)
        fault = _first_conflict(trials, found)
        if fault is None:
            return found
        faults.append(fault)
    raise DataError(faults[0].path, f"{faults[0].message}; want ids that begin with their speaker, or --utt2spk",
                    faults[0].line)


def _number(enrol, test, source: str) -> TrialSpeakers:
    numbers: dict[str, int] = {}
    sides = [np.array([numbers.setdefault(name, len(numbers)) for name in side], dtype=np.int32)
             for side in (enrol, test)]
    return TrialSpeakers(list(numbers), *sides, source)


def _by_table(trials: Trials, path: str | os.PathLike) -> TrialSpeakers:
    speaker_of = read_utt2spk(path).values
    speakers = set(speaker_of.values())
    faults: list[DataError] = []
    sides = []
    for ids, lines, is_enrol in zip((trials.enrol_ids, trials.test_ids), trials.first_lines(), (True, False),
                                    strict=True):
        names = []
        for utt_id, line in zip(ids, lines.tolist(), strict=True):
            name = speaker_of.get(utt_id)
            if name is None and is_enrol:
                name = next((form for form in (utt_id, utt_id.removesuffix(ENROL_SUFFIX)) if form in speakers), None)
            if name is None:
                faults.append(DataError(trials.path, f"'{utt_id}' has no speaker in {os.fspath(path)}", line))
            names.append(name)
        sides.append(names)
    raise_all(sorted(faults, key=lambda fault: fault.line))
    return _number(*sides, os.fspath(path))


def _first_conflict(trials: Trials, speakers: TrialSpeakers) -> DataError | None:
    """The first trial whose label says another thing than its speakers."""
    enrol, test = speakers.of_trials(trials)
    conflicts = np.flatnonzero((enrol == test) != trials.is_target)
    if not len(conflicts):
        return None
    first = int(conflicts[0])
    pair = f"'{trials.enrol_ids[trials.enrol_index[first]]} {trials.test_ids[trials.test_index[first]]}'"
    names = [f"'{speakers.names[side[first]]}'" for side in (enrol, test)]
    told = (f"is a target, but its speakers are {names[0]} and {names[1]}" if trials.is_target[first] else
            f"is a nontarget, but both sides are of speaker {names[0]}")
    more = f", and so are {len(conflicts) - 1:,} others" if len(conflicts) > 1 else ""
    return DataError(trials.path, f"{pair} {told}, by {speakers.source}{more}", first + 1)
