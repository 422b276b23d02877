"""A speaker verification protocol for AliMeeting, exactly enough to rebuild its lists from the corpus.

Nobody has published one. All rules are about annotated times, so the lists hold no path and their bytes don't
depend on where the corpus lies.

Speech
  The far TextGrids; intervals whose text is empty once (...) markers are taken out don't count as spoken; nor
  do those without length; ends are cut to the far recording's end, rounded down to hundredths. Sessions of
  KNOWN defects (R1021_M1947), and those whose annotation runs on more than 60 s after its audio, are left out.
  On a grid of hundredths of a second, a stretch is a maximal run in which exactly one speaker is active;
  stretches of 3.00 s and more are used, whole.
Names
  A stretch is `<speaker>-<session>-<start>-<end>`, e.g. SPK8013-R8001_M8004-009675-011028: times are six
  digits of hundredths. An utterance is a stretch heard by one microphone: SPK8013-R8001_M8004-far-009675-011028
  (one channel of the array), or -near- (that speaker's headset). Stretches are used that each field has whole.
Test part
  All Test sessions. Test speakers have one session each, so every target pair is of one session.
Held-out part
  Two Train sessions that share a speaker belong together, and so on: groups, of which those count that hold a
  speaker of two or more sessions. Groups are put in the order of the SHA-256 of the ASCII id of their smallest
  session (as hexadecimal text), and taken until they hold a quarter (rounded up) of all Train speakers with two
  or more sessions. These sessions and all who speak in them are taken out of training. Target pairs are of two
  sessions only: same-session target pairs are left out.
Pairs
  Names of stretches are sorted as ASCII. Of each pair a < b, a enrols and b is tested. Kept are all target pairs
  (as the part says), all nontarget pairs of one session, and of nontarget pairs of two sessions those for which
  (((h(a) XOR h(b)) * 2654435769) mod 2^32) < 2^27, one in 32: h is the first 8 hexadecimal digits of the
  SHA-256 of the name, as a number.
Conditions
  far-far, near-near, and near-far (a near, b far): the same pairs in the same order, so that conditions differ
  in the microphones alone. Lines are `<enrol-id> <test-id> target|nontarget`, by a, then by b.
Results
  EER and minDCF of each list's targets against (1) its nontargets of the same session, where room, array and
  day tell nothing, and (2) those across sessions; each has its own threshold. For the held-out part also
  nontargets of the same room and of others.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from alimeeting_corpus import Session

PROTOCOL = "speakerkit-alimeeting-1"
MIN_LENGTH = 300               # hundredths of a second
HELD_OUT_SHARE = 0.25          # of the Train speakers who appear in two or more sessions
KEPT_ONE_IN = 32               # of the nontarget pairs across sessions
MULTIPLIER = 2654435769        # Knuth's: 2^32 divided by the golden ratio
CONDITIONS = {"far-far": ("far", "far"), "near-near": ("near", "near"), "near-far": ("near", "far")}
EXPECTED = {"test speakers": 60, "test stretches": 3161, "test target pairs": 125_502,
            "test nontarget pairs of the same session": 147_402, "train speakers in two or more sessions": 227}


class Pairs(NamedTuple):
    """Pairs of stretches by their places in the sorted names, and what they are."""

    enrol: Sequence[int]          # (num_pairs,)
    test: Sequence[int]           # (num_pairs,)
    is_target: Sequence[bool]     # (num_pairs,)
    same_session: Sequence[bool]  # (num_pairs,)


def speakers_in_several_sessions(sessions: Iterable[Session]) -> set[str]:
    """Those who speak in two or more of the sessions."""
    seen, several = set(), set()
    for session in sessions:
        several |= seen & set(session.speakers)
        seen |= set(session.speakers)
    return several


def linked_groups(sessions: Sequence[Session]) -> list[list[Session]]:
    """Sessions joined by shared speakers, directly or through others."""
    groups: list[tuple[set[str], list[Session]]] = []
    for session in sessions:
        touching = [group for group in groups if group[0] & set(session.speakers)]
        people = set(session.speakers).union(*(group[0] for group in touching))
        members = [session, *(member for group in touching for member in group[1])]
        groups = [group for group in groups if group not in touching] + [(people, members)]
    return [sorted(members, key=lambda session: session.session_id) for _, members in groups]


def hold_out(train_sessions: Sequence[Session], share: float = HELD_OUT_SHARE) -> list[Session]:
    """The Train sessions of the held-out part, by id; see the module's text.

    Args:
        train_sessions: all of Train that can be used.
        share: of the speakers with two or more sessions; 0 holds out nobody.
    """
    several = speakers_in_several_sessions(train_sessions)
    wanted = math.ceil(share * len(several))
    groups = [group for group in linked_groups(train_sessions)
              if several & {spk_id for session in group for spk_id in session.speakers}]
    groups.sort(key=lambda group: hashlib.sha256(group[0].session_id.encode()).hexdigest())
    taken: list[Session] = []
    while len(several & {spk_id for session in taken for spk_id in session.speakers}) < wanted:
        taken += groups.pop(0)
    return sorted(taken, key=lambda session: session.session_id)


def hash_names(names: Iterable[str]):
    """(num_names,) uint32: the first 32 bits of each name's SHA-256."""
    import numpy as np

    return np.array([int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) for name in names], np.uint32)


def list_pairs(names: Sequence[str], speakers: Sequence[str], sessions: Sequence[str], same_session_targets: bool,
               kept_one_in: int = KEPT_ONE_IN, progress: Callable = iter) -> Pairs:
    """The pairs of a part.

    Args:
        names: of the stretches, sorted.
        speakers, sessions: of each.
        same_session_targets: whether target pairs of one session are trials.
        kept_one_in: a power of two: of the nontarget pairs across sessions.
        progress: wraps the enrolments that are gone through.
    """
    import numpy as np

    hashes = hash_names(names)
    spk, ses = (np.unique(values, return_inverse=True)[1] for values in (speakers, sessions))
    limit = np.uint32(2 ** 32 // kept_one_in - 1)
    found: list[tuple] = []
    for a in progress(range(len(names))):
        is_target, same_session = spk[a + 1:] == spk[a], ses[a + 1:] == ses[a]
        sampled = (hashes[a + 1:] ^ hashes[a]) * np.uint32(MULTIPLIER) <= limit  # wraps at 2^32
        kept = np.where(is_target, same_session_targets | ~same_session, same_session | sampled)
        places = np.flatnonzero(kept)
        found.append((np.full(len(places), a, np.int32), (places + a + 1).astype(np.int32), is_target[places],
                      same_session[places]))
    if not found:
        return Pairs(*(np.zeros(0, kind) for kind in (np.int32, np.int32, bool, bool)))
    return Pairs(*map(np.concatenate, zip(*found, strict=True)))
