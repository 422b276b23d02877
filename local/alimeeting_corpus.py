"""AliMeeting as it unpacks -> sessions: who sat in them, what recorded them, who spoke when.

One annotation serves both fields, which share their time: the far TextGrid, or the near ones of a session that
has no far one.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from alimeeting_files import FIELDS, SETS, SessionFiles, find_files
from speakerkit.cli import entry
from speakerkit.errors import DataError, RecordingError

log = entry.log

TIER_NAME = re.compile(r"(?:(R\d+_M\d+)_)?(?:([FMN])_)?(SPK\d+)")
GENDERS = {"F": "f", "M": "m", "N": "unknown"}   # N: Eval and Test don't tell
MARKER = re.compile(r"\([^()]*\)")   # (sil), (~), (/OVERLAP): nobody's words
MAX_OVERHANG_S = 60.0   # an annotation that goes on so much longer than its recording is another recording's

# Reported by those who had the audio at hand (issue 10 of yufan-aslp/AliMeeting; an audit of Train_Ali_far).
MISMATCHED = {"R1021_M1947": "26 minutes of audio, 30 of annotation, and their times don't match"}
OVERHANGING = frozenset({"R0004_M0017", "R0004_M0028", "R0015_M0125", "R0015_M0129", "R0015_M0135", "R0020_M0185",
                         "R0020_M0190"})

Spoken = dict[str, list[tuple[int, int]]]   # speaker -> (start, end) of what was spoken, in hundredths of a second


class Recording(NamedTuple):
    """One file of a session."""

    rec_id: str
    path: str
    duration_s: float
    num_channels: int


@dataclasses.dataclass(frozen=True)
class Session:
    """One meeting.

    Attributes:
        subset: Train, Eval or Test.
        session_id: Rnnnn_Mnnnn.
        far: what the array recorded; None where there is no far field.
        near: speaker -> what their headset recorded; empty where there is no near field.
        spoken: speaker -> when they spoke, in the order of the annotation's tiers; trimmed to the audio.
        genders: speaker -> f, m or unknown.
    """

    subset: str
    session_id: str
    far: Recording | None
    near: dict[str, Recording]
    spoken: Spoken
    genders: dict[str, str]

    @property
    def room(self) -> str:
        """Rnnnn."""
        return self.session_id.partition("_")[0]

    @property
    def speakers(self) -> list[str]:
        """In the order of the annotation's tiers."""
        return list(self.spoken)


@dataclasses.dataclass
class Corpus:
    """The sessions that can be used, and what was noted of the others and of their annotation.

    Attributes:
        sessions: sorted by set (Train, Eval, Test) and id.
        left_out: session -> why, of the known defects.
        faults: session -> what is wrong with it, which nobody knew.
        notes: what was trimmed, left out or kept though odd: kind -> how many.
        num_intervals: set -> spoken intervals in its annotation.
    """

    sessions: list[Session] = dataclasses.field(default_factory=list)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    faults: dict[str, list[DataError]] = dataclasses.field(default_factory=dict)
    notes: Counter = dataclasses.field(default_factory=Counter)
    num_intervals: Counter = dataclasses.field(default_factory=Counter)

    def of(self, subset: str) -> list[Session]:
        """The sessions of one set."""
        return [session for session in self.sessions if session.subset == subset]


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How the corpus is read.

    Attributes:
        fields: which of far and near.
        strict: whether what is odd in a TextGrid is refused.
        keep_defective: whether sessions whose annotation doesn't match their audio are used, trimmed.
        encoding: of the TextGrids; None: UTF-8 or UTF-16, found out.
    """

    fields: tuple[str, ...] = FIELDS
    encoding: str | None = None
    strict: bool = False
    keep_defective: bool = False


# ---- one session

class SessionReader:
    """Reads one session, keeping what is wrong with it."""

    def __init__(self, subset: str, session_id: str, files: SessionFiles, options: ReadOptions, corpus: Corpus):
        self.subset, self.session_id, self.files, self.options = subset, session_id, files, options
        self.corpus = corpus
        self.faults: list[DataError] = []

    def read(self) -> None:
        """Add the session to the corpus, or the reason why it can't be used."""
        if self.session_id in MISMATCHED and not self.options.keep_defective:
            self.corpus.left_out[self.session_id] = MISMATCHED[self.session_id]
            return
        far = self._far_recording()
        near = {spk_id: self._scan(path) for spk_id, path in self.files.near_audio.items()}
        tiers = self._tiers()
        self._match(tiers, near)
        if self.faults:
            self.corpus.faults[self.session_id] = self.faults
            return
        duration_s = far.duration_s if far else max(recording.duration_s for recording in near.values())
        overhang_s = max((i.end_s for tier in tiers.values() for i in tier), default=0.0) - duration_s
        if overhang_s > MAX_OVERHANG_S and not self.options.keep_defective:
            self.corpus.left_out[self.session_id] = f"its annotation ends {overhang_s:.0f} s after its audio"
            return
        spoken = self._trim(tiers, duration_s, overhang_s)
        genders = {spk_id: self._gender(spk_id) for spk_id in spoken}
        self.corpus.sessions.append(Session(self.subset, self.session_id, far, near, spoken, genders))

    def _far_recording(self) -> Recording | None:
        if "far" not in self.options.fields:
            return None
        if len(self.files.far_audio) != 1:
            names = ", ".join(path.name for path in self.files.far_audio) or "none"
            self._fault(self.files.far_textgrid or self.session_id, f"{self.session_id} has "
                        f"{len(self.files.far_audio)} far recordings ({names}); wanted one")
            return None
        return self._scan(self.files.far_audio[0])

    def _scan(self, path: Path) -> Recording | None:
        from speakerkit.io.audio import AudioOptions, scan_audio

        try:
            info = scan_audio(path, AudioOptions(channel=0))
        except RecordingError as error:
            self.faults.append(error)
            return None
        return Recording(path.stem, str(path.absolute()), info.duration_s, info.num_channels)

    def _tiers(self) -> dict[str, list]:
        """Speaker -> intervals with words, of the far TextGrid or else of the near ones."""
        if self.files.far_textgrid is not None:
            return self._read_tiers(self.files.far_textgrid)
        if "near" not in self.options.fields or not self.files.near_textgrids:
            where = self.files.far_audio[0] if self.files.far_audio else self.session_id
            self._fault(where, f"{self.session_id} has no TextGrid")
            return {}
        tiers: dict[str, list] = {}
        for spk_id, path in self.files.near_textgrids.items():
            for named, intervals in self._read_tiers(path, spk_id).items():
                tiers.setdefault(named, []).extend(intervals)
        return tiers

    def _read_tiers(self, path: Path, owner: str | None = None) -> dict[str, list]:
        from speakerkit.io.textgrid import read_textgrid

        try:
            grid = read_textgrid(path, self.options.encoding, self.options.strict)
        except DataError as error:
            self.faults += getattr(error, "faults", [error])
            return {}
        for oddity in grid.oddities:
            log.debug("%s", oddity)
            self.corpus.notes[_kind_of_oddity(oddity.message)] += 1
        tiers: dict[str, list] = {}
        for tier in grid.tiers:
            match = TIER_NAME.fullmatch(tier.name.strip())
            spk_id = owner or (match and match[3])
            if not spk_id or (owner and match and match[3] != owner):
                wanted = owner or "[Rnnnn_Mnnnn_][F|M|N_]SPKnnnn"
                self._fault(path, f"tier '{tier.name}' names no speaker; wanted {wanted}", tier.line)
                continue
            if spk_id in tiers and not owner:
                self._fault(path, f"a second tier is of {spk_id}", tier.line)
            if match and match[2]:
                self.files.genders.setdefault(spk_id, set()).add(match[2])
            words = [interval for interval in tier.intervals if MARKER.sub("", interval.text).strip()]
            self.corpus.notes["intervals without words, left out"] += len(tier.intervals) - len(words)
            tiers.setdefault(spk_id, []).extend(words)
        return tiers

    def _match(self, tiers: Mapping[str, list], near: Mapping[str, Recording | None]) -> None:
        """Every speaker of the annotation needs a headset, and every headset a speaker."""
        if "near" not in self.options.fields or self.faults:
            return
        where = self.files.far_textgrid or next(iter(self.files.near_textgrids.values()))
        for spk_id in tiers.keys() - near.keys():
            self._fault(where, f"{spk_id} of {self.session_id} has no near recording")
        for spk_id in sorted(near.keys() - tiers.keys()):
            self._fault(self.files.near_audio[spk_id], f"{spk_id} is not in the annotation of {self.session_id}")

    def _trim(self, tiers: Mapping[str, list], duration_s: float, overhang_s: float) -> Spoken:
        from speakerkit.io.textgrid import trim_intervals

        spoken: Spoken = {}
        total = 0
        for spk_id, intervals in tiers.items():
            kept, num_trimmed = trim_intervals(intervals, duration_s)
            total += num_trimmed
            # Times have two decimals; the end of the audio is rounded down to them.
            spans = [(round(100 * i.start_s), min(round(100 * i.end_s), int(100 * duration_s))) for i in kept]
            spoken[spk_id] = sorted(span for span in spans if span[0] < span[1])
            self.corpus.num_intervals[self.subset] += len(intervals)
        if total:
            known = ", as is known of it" if self.session_id in OVERHANGING | MISMATCHED.keys() else ""
            log.info("%s: annotation ends %.2f s after the audio%s; %d intervals trimmed", self.session_id, overhang_s,
                     known, total)
            self.corpus.notes["intervals that end after their audio, trimmed"] += total
        return spoken

    def _gender(self, spk_id: str) -> str:
        found = {GENDERS[letter] for letter in self.files.genders.get(spk_id, ())} - {"unknown"}
        return found.pop() if len(found) == 1 else "unknown"

    def _fault(self, path: Path | str, message: str, line: int | None = None) -> None:
        self.faults.append(DataError(path, message, line))


def _kind_of_oddity(message: str) -> str:
    for words, kind in (("no length", "intervals without length, left out"),
                        ("before its start", "intervals that end before they begin, left out"),
                        ("begins before", "intervals that overlap another of their tier, kept"),
                        ("after its tier", "intervals that end after their tier, kept")):
        if words in message:
            return kind
    return "tiers of points, left out"


# ---- the whole

def read_corpus(corpus_dir: Path, subsets: Iterable[str], options: ReadOptions) -> Corpus:
    """Every session of some sets.

    Raises:
        DataError: no such folder, none of the sets in it, or a set without one of the wanted fields.
    """
    if not corpus_dir.is_dir():
        raise DataError(corpus_dir, "no such folder")
    corpus, subsets = Corpus(), tuple(subsets)
    found = {subset: find_files(corpus_dir, subset, options.fields, corpus.notes) for subset in subsets}
    if not any(found.values()):
        raise DataError(corpus_dir, "holds none of " + ", ".join(
            f"{subset}_Ali_{field}" for subset in subsets for field in options.fields) + " with an audio_dir in it")
    for subset in SETS:
        for session_id, files in found.get(subset, {}).items():
            SessionReader(subset, session_id, files, options, corpus).read()
    return corpus


def gender_conflicts(sessions: Iterable[Session]) -> dict[str, list[str]]:
    """Speaker -> the sessions whose names call them f and m: two persons under one number, or a slip."""
    told: dict[str, dict[str, list[str]]] = {}
    for session in sessions:
        for spk_id, gender in session.genders.items():
            if gender != "unknown":
                told.setdefault(spk_id, {}).setdefault(gender, []).append(session.session_id)
    return {spk_id: sorted(sum(genders.values(), [])) for spk_id, genders in told.items() if len(genders) > 1}
