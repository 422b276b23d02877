import io
import os
import tempfile
import types
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speakerkit.errors import DataError, DataErrors
from speakerkit.io import tables
from speakerkit.io.tables import Segment


def write(folder, text, name="wav.scp"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(read, path, **kwargs):
    """The whole message of a refusal, without the folder."""
    with pytest.raises(DataError) as caught:
        read(path, **kwargs)
    return str(caught.value).replace(f"{os.path.dirname(path)}/", "")


# --- what is accepted ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "a x.wav\nb y z.wav\n", "a x.wav\r\nb y z.wav\r\n", "\ufeffa x.wav\nb y z.wav\n", "a \t x.wav\n  b\ty z.wav  \n",
    "a x.wav\nb y z.wav", "a x.wav\nb y z.wav\n\n \n\r\n",
], ids=["plain", "crlf", "bom", "blanks", "no final newline", "trailing blank lines"])
def test_a_table_is_read_alike(tmp_path, text):
    table = tables.read_table(write(tmp_path, text))
    assert table.values == {"a": "x.wav", "b": "y z.wav"}
    assert table.lines == {"a": 1, "b": 2}


def test_crlf_is_said_once(tmp_path, caplog):
    with caplog.at_level("INFO", "speakerkit"):
        tables.read_table(write(tmp_path, "a 1\r\nb 2\r\nc 3\r\n"))
    assert caplog.messages == [f"{tmp_path}/wav.scp: lines end in CRLF, read as LF"]


@pytest.mark.parametrize("value", ["a  b.wav", "中文 路径/é.wav", "sox x.wav -t wav - |", "a#b:5[1]", "x\u00a0y",
                                   "x\u2028y"])
@pytest.mark.parametrize("key", ["utt#1", "说话人-1", "a|b", "'", '"x', "1e3"])
def test_odd_but_legal(tmp_path, key, value):
    assert tables.read_table(write(tmp_path, f"{key} {value}\n")).values == {key: value}


def test_the_order_of_the_file_is_kept(tmp_path):
    assert list(tables.read_table(write(tmp_path, "b 1\na 2\nc 3\n")).values) == ["b", "a", "c"]


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(b"a 1\nb\n")))
    assert refusal(tables.read_table, "-") == "standard input:2: 'b' has no path"


def test_a_shells_pipe_is_read(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b"a 1\n")
    os.close(writer)
    assert tables.read_table(f"/dev/fd/{reader}").values == {"a": "1"}
    os.close(reader)


# --- what is refused -----------------------------------------------------------------------------------------------

ARK = b"utt0 \0BFV \x04\x02\x00\x00\x00" + b"\0" * 8


@pytest.mark.parametrize("text, message", [
    ("", "wav.scp: is empty; wanted '<id> <path>' a line"),
    ("\n \n", "wav.scp: is empty; wanted '<id> <path>' a line"),
    ("\ufeff", "wav.scp: is empty; wanted '<id> <path>' a line"),
    ("a 1\n\nb 2\n", "wav.scp:2: blank line"),
    ("\na 1\n", "wav.scp:1: blank line"),
    ("a 1\nb 2\na 3\n", "wav.scp:3: 'a' again; first on line 1"),
    ("a 1\nutt7\n", "wav.scp:2: 'utt7' has no path"),
    ("a 1\nutt7 \t\n", "wav.scp:2: 'utt7' has no path"),
    ("utt\u00a00 1\n", "wav.scp:1: 'utt\\xa00' holds U+00A0 (NO-BREAK SPACE); wanted an id without"
                       " blank or invisible characters"),
    ("utt\u30000 1\n", "wav.scp:1: 'utt\\u30000' holds U+3000 (IDEOGRAPHIC SPACE); wanted an id without"
                       " blank or invisible characters"),
    ("u\u20280 1\n", "wav.scp:1: 'u\\u20280' holds U+2028 (LINE SEPARATOR); wanted an id without"
                     " blank or invisible characters"),
    ("u\x1c0 1\n", "wav.scp:1: 'u\\x1c0' holds U+001C (control character); wanted an id without"
                   " blank or invisible characters"),
    ("a 1\rb 2\r", "wav.scp:1: carriage return inside the line; wanted lines that end in LF or CRLF"),
    ("a 1\nb 2\0\n", "wav.scp:2: NUL byte; wanted text"),
    ("a 1\nb " + "x" * 70_000, "wav.scp:2: line of 70002 characters; at most 65536 are read"),
    (b"a 1\nb 2\nutt\xbb\xa1 3\n".replace(b"\xbb\xa1", "话".encode("gbk")),
     "wav.scp:3: byte 0xbb in column 4 is not UTF-8 (the file looks like GBK); convert it: iconv -f GBK -t UTF-8"),
    ("é 1\n".encode("latin-1"), "wav.scp:1: byte 0xe9 in column 1 is not UTF-8; convert the file"),
    ("a 1\n".encode("utf-16"), "wav.scp: looks like UTF-16; convert it: iconv -f UTF-16 -t UTF-8"),
    (ARK, "wav.scp: binary Kaldi archive; wanted '<id> <path>' a line"),
    (b"\x1f\x8b\x08\x00", "wav.scp: compressed file; unpack it first; wanted '<id> <path>' a line"),
])
def test_a_bad_table(tmp_path, text, message):
    assert refusal(tables.read_table, write(tmp_path, text)) == message


def test_an_ark_in_place_of_its_scp(tmp_path):
    write(tmp_path, "utt0 emb.ark:5\n", "emb.scp")
    told = refusal(tables.read_table, write(tmp_path, ARK, "emb.ark"))
    assert told == "emb.ark: binary Kaldi archive; wanted '<id> <path>' a line (did you mean emb.scp?)"


def test_what_is_no_file(tmp_path):
    assert refusal(tables.read_table, tmp_path / "nope") == "nope: no such file"
    assert "is a folder; wanted a text file" in refusal(tables.read_table, tmp_path)
    assert "is a device; wanted a text file" in refusal(tables.read_table, "/dev/zero")
    assert "can't be read: " in refusal(tables.read_table, "a\0b")
    write(tmp_path, "x")
    assert "can't be read: not a directory" in refusal(tables.read_table, tmp_path / "wav.scp" / "x")


def test_all_faults_are_found_in_one_pass(tmp_path):
    with pytest.raises(DataErrors) as caught:
        tables.read_table(write(tmp_path, "a 1\n\nb\na 2\nc\u00a0d 3\ne\n"))
    assert [fault.line for fault in caught.value.faults] == [2, 3, 4, 5, 6]


def test_read_lines_raises_the_first_fault(tmp_path):
    path = write(tmp_path, "a\n\nb\n\nc\n")
    with pytest.raises(DataError, match="wav.scp:2: blank line"):
        list(tables.read_lines(path))
    assert list(tables.read_lines(path, faults=[])) == [(1, "a"), (3, "b"), (5, "c")]


# --- utt2spk, spk2utt, segments ------------------------------------------------------------------------------------


def test_utt2spk(tmp_path):
    assert tables.read_utt2spk(write(tmp_path, "s-1 s\ns-2\ts \n")).values == {"s-1": "s", "s-2": "s"}


@pytest.mark.parametrize("line, message", [
    ("a", "wav.scp:1: 1 fields; wanted '<utt-id> <spk-id>'"),
    ("a b c", "wav.scp:1: 3 fields; wanted '<utt-id> <spk-id>'"),
    ("a s\u3000", "wav.scp:1: 's\\u3000' holds U+3000 (IDEOGRAPHIC SPACE); wanted an id without blank or invisible"
                  " characters"),
])
def test_a_bad_utt2spk(tmp_path, line, message):
    assert refusal(tables.read_utt2spk, write(tmp_path, line + "\n")) == message


def test_spk2utt(tmp_path):
    many = [f"s-{number:05}" for number in range(20_000)]  # one line far longer than any other table's
    path = write(tmp_path, f"s {' '.join(many)}\nt\tt-1  t-2 \n")
    assert tables.read_spk2utt(path) == {"s": many, "t": ["t-1", "t-2"]}


@pytest.mark.parametrize("text, message", [
    ("s\n", "wav.scp:1: 's' has no utterance"),
    ("s a b a\n", "wav.scp:1: 'a' again; first on line 1"),
    ("s a\nt b a\n", "wav.scp:2: 'a' again; first on line 1"),
    ("s a\ns b\n", "wav.scp:2: 's' again; first on line 1"),
])
def test_a_bad_spk2utt(tmp_path, text, message):
    assert refusal(tables.read_spk2utt, write(tmp_path, text)) == message


def test_segments(tmp_path):
    path = write(tmp_path, "a-1 a 0 1.25\na-2 a 1e1 -1\n")
    assert tables.read_segments(path) == {"a-1": Segment("a", 0.0, 1.25, 1), "a-2": Segment("a", 10.0, -1.0, 2)}


@pytest.mark.parametrize("line, message", [
    ("a", "1 fields; wanted '<utt-id> <rec-id> <start> <end>'"),
    ("a r 1", "3 fields; wanted '<utt-id> <rec-id> <start> <end>'"),
    ("a r 1 2 0", "5 fields; wanted '<utt-id> <rec-id> <start> <end>'"),
    ("a r x 2", "'x' is no time; wanted seconds as a decimal number"),
    ("a r 0 nan", "'nan' is no time; wanted seconds as a decimal number"),
    ("a r 0 inf", "'inf' is no time; wanted seconds as a decimal number"),
    ("a r 0 1e999", "'1e999' is no time; wanted seconds as a decimal number"),
    ("a r 0 1_0", "'1_0' is no time; wanted seconds as a decimal number"),
    ("a r 0 ١", "'١' is no time; wanted seconds as a decimal number"),
    ("a r -1 2", "segment starts at -1 s, before its recording"),
    ("a r 2 2", "segment ends at 2 s, not after its start at 2 s"),
    ("a r 2 1.5", "segment ends at 1.5 s, not after its start at 2 s"),
    ("a r\u00a0x 1 2", "'r\\xa0x' holds U+00A0 (NO-BREAK SPACE); wanted an id without blank or invisible characters"),
])
def test_a_bad_segment(tmp_path, line, message):
    assert refusal(tables.read_segments, write(tmp_path, line + "\n")) == f"wav.scp:1: {message}"


# --- writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs, message", [
    ([("a", 1), ("a", 2)], "'a' twice"),
    ([("", "x")], "an id is empty"),
    ([("a b", "x")], "'a b' holds U+0020 (SPACE); wanted an id without blank or invisible characters"),
    ([("a\nb", "x")], "'a\\nb' holds U+000A (control character); wanted an id without blank or invisible characters"),
    ([("a", "")], "'a' has the value ''; wanted one line of UTF-8 without blanks around it"),
    ([("a", "x\ny z")], "'a' has the value 'x\\ny z'; wanted one line of UTF-8 without blanks around it"),
    ([("a", " x")], "'a' has the value ' x'; wanted one line of UTF-8 without blanks around it"),
    ([("a", "x\udcff")], "'a' has the value 'x\\udcff'; wanted one line of UTF-8 without blanks around it"),
])
def test_what_could_not_be_read_back_is_not_written(tmp_path, pairs, message):
    assert refusal(tables.write_table, tmp_path / "out", pairs=pairs) == f"out: can't be written: {message}"
    assert os.listdir(tmp_path) == []


def test_the_c_order(tmp_path):
    ids = ["b", "a", "B", "é", "话", "a-1", "a1", "𝄞"]
    assert sorted(ids, key=tables.sort_key) == ["B", "a", "a-1", "a1", "b", "é", "话", "𝄞"]


ids = st.text(min_size=1, max_size=8).filter(lambda text: tables.id_fault(text) is None)
values = st.text(min_size=1, max_size=20).filter(
    lambda text: text.strip(" \t") == text and not set("\n\r\0") & set(text) and text.isprintable())


@pytest.fixture
def ram_folder(tmp_path):
    """A folder in memory where there is one: tests that sync to the disk many times wait for it otherwise."""
    in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=in_memory or tmp_path) as folder:
        yield Path(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # each example writes the same file anew
@given(table=st.dictionaries(ids, values, min_size=1, max_size=10))
def test_read_gives_back_what_was_written(ram_folder, table):
    path = ram_folder / "t"
    tables.write_table(path, table)
    assert list(tables.read_table(path).values.items()) == list(table.items())


readers = st.sampled_from([tables.read_table, tables.read_utt2spk, tables.read_spk2utt, tables.read_segments])
pieces = st.sampled_from([b"a", b"b", b" ", b"\t", b"\n", b"\r", b"\0", b"1", b"-1", b".5", b"nan", b"\xff",
                          b"\xc2\xa0", "话".encode(), b"\xef\xbb\xbf", b"\0B"])


@given(readers, st.one_of(st.binary(max_size=60), st.lists(pieces, max_size=30).map(b"".join)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_table_or_a_data_error(ram_folder, read, data):
    path = write(ram_folder, data)
    try:
        found = read(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert found is not None
