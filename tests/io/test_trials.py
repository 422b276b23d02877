"""Trial lists: the fast reader and the careful one say the same; every fault has its line."""

import hashlib
import io
import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.errors import DataError, DataErrors
from speakerkit.io import trial_lines
from speakerkit.io.trials import read_enrol_map, read_trials


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("trials") / "trials"


def written(path, text) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return str(path)


def as_rows(trials) -> list[tuple]:
    labels = [None] * len(trials) if trials.is_target is None else trials.is_target.tolist()
    return [(trials.enrol_ids[e], trials.test_ids[t], label)
            for e, t, label in zip(trials.enrol_index, trials.test_index, labels, strict=True)]


def read_both_ways(path, label_first=False):
    """What read_trials says, which must be what the line-by-line reader alone says; an error as its text."""
    said = []
    for is_fast in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not is_fast:
                patch.setattr(trial_lines, "_read_blocks", lambda *_: None)
            try:
                said.append(read_trials(path, label_first))
            except DataError as error:
                said.append(str(error))
    if isinstance(said[0], str):
        assert said[0] == said[1]
    else:
        assert as_rows(said[0]) == as_rows(said[1])
        assert said[0].enrol_ids == said[1].enrol_ids
        assert said[0].test_ids == said[1].test_ids
        assert (said[0].num_repeated, said[0].sha256) == (said[1].num_repeated, said[1].sha256)
    return said[0]


LABELLED = [("e1", "t1", True), ("e1", "t2", False), ("e2", "t1", False)]
UNLABELLED = [("e1", "t1", None), ("e1", "t2", None)]


@pytest.mark.parametrize("text, rows", [
    ("e1 t1 target\ne1 t2 nontarget\ne2 t1 nontarget\n", LABELLED),
    ("e1 t1 1\ne1 t2 0\ne2 t1 0\n", LABELLED),
    ("e1 t1 target\ne1 t2 nontarget\ne2 t1 nontarget", LABELLED),                   # no newline at the end
    ("e1 t1 target\r\ne1 t2 nontarget\r\ne2 t1 nontarget\r\n", LABELLED),           # CRLF
    ("\ufeffe1 t1 target\ne1 t2 nontarget\ne2 t1 nontarget\n", LABELLED),           # byte-order mark
    ("e1\tt1\ttarget\ne1\tt2\tnontarget\ne2\tt1\tnontarget\n", LABELLED),           # tabs
    ("e1  t1 target\n e1 t2\tnontarget\ne2 t1 nontarget \n", LABELLED),             # separators of all kinds
    ("e1 t1 target\ne1 t2 nontarget\ne2 t1 nontarget\n\n \n", LABELLED),            # blank lines at the end
    ("e1 t1\ne1 t2\n", UNLABELLED),
    ('"e1 #t\n中文/é.wav "q"\n', [('"e1', "#t", None), ("中文/é.wav", '"q"', None)]),  # ids are what stands there
    ("target nontarget\n", [("target", "nontarget", None)]),                        # no labels: two ids
    ("1 0 1\n", [("1", "0", True)]),
    ("e1*t1 1\ne1*t2 0\ne2*t1 0\n", LABELLED),                                       # ESPnet's trial_label
    ("e1*t1 target\r\ne1*t2 nontarget\r\ne2*t1 nontarget", LABELLED),
    ("e1*t1\t1\ne1*t2\t0\ne2*t1\t0\n", LABELLED),
    ("e1*t1  1\n e1*t2 0\ne2*t1 0\n", LABELLED),
    ("a*b c\na*b d\n", [("a*b", "c", None), ("a*b", "d", None)]),                    # no label: two ids
    ("a*b c 1\n", [("a*b", "c", True)]),
    ("a*b*c 1\n", [("a*b*c", "1", None)]),
    ("*b 1\n", [("*b", "1", None)]),
])
def test_what_is_read(scratch, text, rows):
    trials = read_both_ways(written(scratch, text))
    assert as_rows(trials) == rows
    assert trials.sha256 == hashlib.sha256(text.encode("utf-8")).hexdigest()
    assert trials.enrol_index.dtype == trials.test_index.dtype == np.int32


def test_voxceleb_order(scratch):
    path = written(scratch, "1 id10270/a.wav id10270/b.wav\n0 id10270/a.wav id10300/c.wav\n")
    trials = read_both_ways(path, label_first=True)
    assert as_rows(trials) == [("id10270/a.wav", "id10270/b.wav", True), ("id10270/a.wav", "id10300/c.wav", False)]
    with pytest.raises(DataError) as refused:
        read_trials(path)
    assert str(refused.value) == (f"{path}:1: first field '1' is a label; wanted '<enrol-id> <test-id> <label>', "
                                  "or give --trials-format label-first")


@pytest.mark.parametrize("text, fault", [
    ("", ": is empty; wanted '<enrol-id> <test-id> [target|nontarget]' a line"),
    ("e1 t1 target\ne1\n", ":2: 1 fields; wanted '<enrol-id> <test-id> [target|nontarget]'"),
    ("e1 t1 target\ne1 t2 nontarget 0.5\n", ":2: 4 fields; wanted '<enrol-id> <test-id> [target|nontarget]'"),
    ("e1 t1 target\ne1 t2\n", ":2: no label, but the lines before have one"),
    ("e1 t1\ne1 t2 target\n", ":2: a third field 'target', but the lines before have two"),
    ("e1 t1 yes\n", ":1: label is 'yes'; want target/nontarget or 1/0, one vocabulary a file"),
    ("e1 t1 target\ne1 t2 Nontarget\n", ":2: label is 'Nontarget'; want target/nontarget or 1/0, one vocabulary a "
                                        "file, and the lines before have nontarget/target"),
    ("e1 t1 target\ne1 t2 0\n", ":2: label is '0'; want target/nontarget or 1/0, one vocabulary a file, and the "
                                "lines before have nontarget/target"),
    ("e1 t1 target\n\ne1 t2 nontarget\n", ":2: blank line"),
    ("e1*t1 1\ne1 t2 0\n", ":2: 3 fields; wanted '<enrol-id>*<test-id> target|nontarget'"),
    ("e1*t1 1\ne1*t2*t3 0\n", ":2: 'e1*t2*t3' is no '<enrol-id>*<test-id>'"),
    ("e1*t1 1\ne1* 0\n", ":2: 'e1*' is no '<enrol-id>*<test-id>'"),
    ("e1*t1 1\ne1*t2 target\n", ":2: label is 'target'; want target/nontarget or 1/0, one vocabulary a file, and the "
                               "lines before have 0/1"),
    ("e1*t1 1\ne1*t1 0\n", ":2: 'e1 t1' is nontarget here and target on line 1"),
    ("e1 t1 target\ne\0 t2 nontarget\n", ":2: NUL byte; wanted text"),
    ("e1 t1 target\ne1\u00a0x t2 nontarget\n", ":2: 'e1\\xa0x' holds U+00A0 (NO-BREAK SPACE); wanted an id without "
                                               "blank or invisible characters"),
    (b"e1 t1 target\ne\xbb t2 nontarget\n", ":2: byte 0xbb in column 2 is not UTF-8; convert the file"),
    ("e1 t1 target\ne1 t2\r nontarget\n", ":2: carriage return inside the line; wanted lines that end in LF or CRLF"),
    ("e1 t1 target\n" + "e" * 70_000 + " t2 nontarget\n", ":2: line of 70013 characters; at most 65536 are read"),
    ("e1 t1 target\ne1 t1 nontarget\n", ":2: 'e1 t1' is nontarget here and target on line 1"),
    ("e1 t1 0\ne1 t2 1\ne1 t1 0\ne1 t1 1\n", ":4: 'e1 t1' is target here and nontarget on line 1"),
])
def test_what_is_refused(scratch, text, fault):
    path = written(scratch, text)
    assert read_both_ways(path) == path + fault


def test_all_faults_are_found_in_one_pass(scratch):
    path = written(scratch, "e1 t1 target\ne1 t2 maybe\n\ne1\ne1 t3 target\n")
    with pytest.raises(DataErrors) as refused:
        read_trials(path)
    assert [fault.line for fault in refused.value.faults] == [2, 3, 4]


def test_a_file_of_another_kind_is_not_read_to_its_end(scratch, monkeypatch):
    monkeypatch.setattr(trial_lines, "MOST_FAULTS", 3)
    with pytest.raises(DataErrors) as refused:
        read_trials(written(scratch, "one two three four\n" * 50))
    assert len(refused.value.faults) == 3


def test_no_file(tmp_path):
    assert read_both_ways(str(tmp_path / "none")) == f"{tmp_path / 'none'}: no such file"
    assert read_both_ways(str(tmp_path)) == f"{tmp_path}: is a folder; wanted a text file"


def test_repeated_trials_are_counted(scratch):
    trials = read_both_ways(written(scratch, "e1 t1 1\ne1 t2 0\ne1 t1 1\ne1 t1 1\n"))
    assert len(trials) == 4
    assert trials.num_repeated == 2
    many_ids = "".join(f"e{i} t{i}\n" for i in range(50)) + "e7 t7\n"  # few of all pairs: counted by sorting
    assert read_both_ways(written(scratch, many_ids)).num_repeated == 1


def test_lines_of_first_appearance(scratch):
    trials = read_trials(written(scratch, "e1 t1\ne2 t1\ne2 t2\n"))
    enrol_lines, test_lines = trials.first_lines()
    assert (enrol_lines.tolist(), test_lines.tolist()) == ([1, 2], [1, 3])


def test_standard_input_and_pipes(monkeypatch, tmp_path):
    text = b"e1 t1 target\ne1 t2 nontarget\n"

    class Stdin:
        buffer = io.BytesIO(text)

    monkeypatch.setattr("sys.stdin", Stdin)
    trials = read_trials("-")
    assert (trials.path, trials.sha256) == ("standard input", hashlib.sha256(text).hexdigest())
    Stdin.buffer = io.BytesIO(b"e1 t1 target\ne1\ne2\n")
    with pytest.raises(DataErrors, match="standard input:2: 1 fields"):
        read_trials("-")
    Stdin.buffer = io.BytesIO(b"")
    with pytest.raises(DataError, match="^standard input: is empty"):
        read_trials("-")

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(text,))
    writer.start()
    assert read_trials(pipe).sha256 == trials.sha256
    writer.join()


words = st.sampled_from(["a", "b", "é", "target", "1", "0", "#", '"', "a,b"])
rows = st.lists(st.tuples(words, words, st.booleans()), min_size=1, max_size=30)


@settings(deadline=None)
@given(rows, st.integers(1, 60))
def test_blocks_change_nothing(scratch, rows, block_bytes):
    text = "".join(f"{e} {t} {int(label)}\n" for e, t, label in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial_lines, "_BLOCK_BYTES", block_bytes)
        trials = read_both_ways(written(scratch, text))
    is_clear = len({(e, t) for e, t, _ in rows}) == len(set(rows))  # no pair with both labels
    if is_clear:
        assert as_rows(trials) == rows
    else:
        assert isinstance(trials, str)


pieces = st.sampled_from(["a", "b", "target", "nontarget", "1", "0", " ", "  ", "\t", "\n", "\r\n", "\r", "\n\n", '"',
                          "#", "\0", "\u00a0", "\ufeff", "\u2028", ",", "a b target\n", "c d nontarget\n", "a b\n", "*",
                          "a*b 1\n", "c*d 0\n", "a*b target\n"])


@settings(deadline=None)
@given(st.lists(pieces, max_size=25).map("".join), st.booleans())
def test_both_readers_say_the_same_of_any_text(scratch, text, label_first):
    read_both_ways(written(scratch, text), label_first)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_give_trials_or_a_fault(scratch, data):
    read_both_ways(written(scratch, data))


def test_enrol_map(tmp_path):
    path = tmp_path / "enroll.map"
    path.write_text("s1 s1/a.wav s1/b.wav\ns2\ts1/a.wav\n", encoding="utf-8")
    assert read_enrol_map(path) == {"s1": ["s1/a.wav", "s1/b.wav"], "s2": ["s1/a.wav"]}


@pytest.mark.parametrize("text, fault", [
    ("s1 a b\ns1 c\n", ":2: 's1' again; first on line 1"),
    ("s1 a b\ns2\n", ":2: 's2' has no utterances"),
    ("s1 a b a\n", ":1: 'a' twice in one enrolment"),
    ("s1 a \u3000b\n", ":1: '\\u3000b' holds U+3000 (IDEOGRAPHIC SPACE); wanted an id without blank or invisible "
                       "characters"),
    ("", ": is empty; wanted '<id> <utterances>' a line"),
])
def test_enrol_maps_refused(tmp_path, text, fault):
    path = written(tmp_path / "enroll.map", text)
    with pytest.raises(DataError) as refused:
        read_enrol_map(path)
    assert str(refused.value) == path + fault
