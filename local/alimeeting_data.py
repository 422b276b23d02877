"""Stretches of AliMeeting's sessions -> utterances with ids and what is known of them -> data directories."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from alimeeting_corpus import Recording, Session
from speech_segments import Stretch, fit_durations, single_speaker_stretches, whole_segments


class Utterance(NamedTuple):
    """One stretch of one speaker, heard by one microphone (or one array)."""

    utt_id: str
    spk_id: str          # the class that is learnt: a person, or a person in one meeting
    recording: Recording
    start: int           # hundredths of a second
    end: int
    field: str           # near or far
    session: Session
    gender: str

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return (self.end - self.start) / 100


def find_stretches(session: Session, kind: str, min_length: int, max_length: int | None = None) -> list[Stretch]:
    """A session's stretches of one speaker; lengths in hundredths of a second.

    Args:
        kind: "stretches", cut where others join in; "whole", annotated segments that overlap nothing.
    """
    find = single_speaker_stretches if kind == "stretches" else whole_segments
    return fit_durations(find(session.spoken), min_length, max_length)


def person_and_time(session: Session, stretch: Stretch) -> tuple[str, str]:
    """The parts of an utterance's id around its field: SPKnnnn-Rnnnn_Mnnnn and start-end in hundredths."""
    return f"{stretch.spk_id}-{session.session_id}", f"{stretch.start:06d}-{stretch.end:06d}"


def meeting_label(session: Session, spk_id: str) -> str:
    """The class that the reference system gives a person in one meeting: R0003_M0046_S001.

    S counts the annotation's tiers from 1, with those who have no stretch. For Eval and Test the array stands
    in it too: R8001_M8004_MS801_S001.
    """
    name = session.far.rec_id if session.subset != "Train" and session.far else session.session_id
    return f"{name}_S{session.speakers.index(spk_id) + 1:03d}"


def make_utterances(session: Session, stretches: Iterable[Stretch], fields: Iterable[str], per_meeting: bool,
                    min_length: int, notes: Counter) -> list[Utterance]:
    """Each stretch as each field heard it.

    Args:
        per_meeting: the class is a person in this meeting, not a person.
        min_length: hundredths of a second that must be left where a headset's recording ends early.
        notes: such stretches are counted here.
    """
    fields, utterances = list(fields), []
    for stretch in stretches:
        person, time = person_and_time(session, stretch)
        spk_id = meeting_label(session, stretch.spk_id) if per_meeting else stretch.spk_id
        for field in fields:
            recording = session.far if field == "far" else session.near.get(stretch.spk_id)
            if recording is None:
                continue
            end = min(stretch.end, int(100 * recording.duration_s))
            if end < stretch.end:
                notes["stretches beyond the end of their recording, trimmed or left out"] += 1
            if end - stretch.start >= min_length:
                utt_id = f"{spk_id if per_meeting else person}-{field}-{time}"
                utterances.append(Utterance(utt_id, spk_id, recording, stretch.start, end, field, session,
                                            session.genders[stretch.spk_id]))
    return utterances


def describe(utterances: Iterable[Utterance]) -> dict[str, dict[str, object]]:
    """Tables of what results may be broken down by: name of the table -> utt_id -> value."""
    tables: dict[str, dict[str, object]] = {f"utt2{what}": {} for what in
                                            ("condition", "session", "room", "gender", "dur")}
    for utterance in utterances:
        for name, value in (("condition", utterance.field), ("session", utterance.session.session_id),
                            ("room", utterance.session.room), ("gender", utterance.gender),
                            ("dur", f"{utterance.duration_s:.2f}")):
            tables[f"utt2{name}"][utterance.utt_id] = value
    return tables


def write_utterances(folder: Path, utterances: Iterable[Utterance]) -> None:
    """Write wav.scp, segments, utt2spk, spk2utt and the tables of `describe`, sorted as LC_ALL=C sorts."""
    from speakerkit.io.data_dir import write_data_dir
    from speakerkit.io.tables import Segment

    utterances = list(utterances)
    write_data_dir(
        folder,
        wav_scp={utterance.recording.rec_id: utterance.recording.path for utterance in utterances},
        utt2spk={utterance.utt_id: utterance.spk_id for utterance in utterances},
        segments={u.utt_id: Segment(u.recording.rec_id, u.start / 100, u.end / 100, 0) for u in utterances},
        extra=describe(utterances))
