"""TextGrids: both forms, encodings, and every way in which real files are odd or broken."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerkit.errors import DataError, DataErrors
from speakerkit.io.textgrid import Interval, TextGrid, read_textgrid, trim_intervals

# Only spoken intervals, as AliMeeting's: the first tier begins at 1.5 s, has a gap, and says so in its size.
LONG = """\
File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 10.25
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "N_SPK8013"
        xmin = 0
        xmax = 10.25
        intervals: size = 2
        intervals [1]:
            xmin = 1.5
            xmax = 3.25
            text = "你好"
        intervals [2]:
            xmin = 5
            xmax = 9.75
            text = "he said ""no"" = 3!"
    item [2]:
        class = "IntervalTier"
        name = "N_SPK8014"
        xmin = 0
        xmax = 10.25
        intervals: size = 1
        intervals [1]:
            xmin = 2.5
            xmax = 4
            text = "嗯"
"""
SHORT = """\
File type = "ooTextFile"
"TextGrid"

0
10.25
<exists>
2
"IntervalTier"
"N_SPK8013"
0
10.25
2
1.5
3.25
"你好"
5
9.75
"he said ""no"" = 3!"
"IntervalTier"
"N_SPK8014"
0
10.25
1
2.5
4
"嗯"
"""
TIERS = [("N_SPK8013", [(1.5, 3.25, "你好"), (5.0, 9.75, 'he said "no" = 3!')]), ("N_SPK8014", [(2.5, 4.0, "嗯")])]


@pytest.fixture
def read(tmp_path: Path):
    """``read(text or bytes, **options)`` of a file x.TextGrid."""

    def write_and_read(content: str | bytes, **options) -> TextGrid:
        path = tmp_path / "x.TextGrid"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_textgrid(path, **options)

    return write_and_read


def plain(grid: TextGrid) -> list:
    return [(tier.name, [(i.start_s, i.end_s, i.text) for i in tier.intervals]) for tier in grid.tiers]


@pytest.mark.parametrize("content", [
    pytest.param(LONG, id="long form"),
    pytest.param(SHORT, id="short form"),
    pytest.param(SHORT.replace('"ooTextFile"\n"TextGrid"', '"ooTextFile short"\n"TextGrid"'), id="old short form"),
    pytest.param(LONG.replace("\n", "\r\n"), id="CRLF"),
    pytest.param(LONG.replace("\n", "\r"), id="CR"),
    pytest.param(LONG.replace("\n", "  \t\n"), id="trailing blanks"),
    pytest.param(LONG.replace("xmin = ", "xmin=").replace("size = ", "size= "), id="no blanks around ="),
    pytest.param(LONG.replace("item []:", "item []: ! written \"by hand\""), id="comment"),
    pytest.param("\ufeff" + LONG, id="UTF-8 with a mark"),
    pytest.param(LONG.encode("utf-16"), id="UTF-16 with a mark"),
    pytest.param(b"\xfe\xff" + LONG.encode("utf-16-be"), id="UTF-16 BE with a mark"),
    pytest.param(LONG.encode("utf-16-le"), id="UTF-16 LE without"),
    pytest.param(LONG.encode("utf-16-be"), id="UTF-16 BE without"),
])
def test_every_form_is_read_alike(read, content):
    grid = read(content)
    assert plain(grid) == TIERS
    assert (grid.start_s, grid.end_s) == (0.0, 10.25)
    assert grid.oddities == ()
    assert read(content, strict=True) == grid


def test_lines_are_those_of_an_editor(read):
    grid = read(LONG.replace("\n", "\r\n"))
    assert [i.line for i in grid.tiers[0].intervals] == [16, 20]
    assert grid.tiers[1].line == 24


def test_a_text_may_hold_line_breaks(read):
    grid = read(LONG.replace("你好", "你\n好\n"))
    assert grid.tiers[0].intervals[0].text == "你\n好\n"
    assert grid.tiers[0].intervals[1].line == 22


def test_gbk_is_named_and_read_where_it_is_given(read):
    content = LONG.encode("gb18030")
    with pytest.raises(DataError, match=r"x\.TextGrid:18: byte 0xc4 is not UTF-8 \(the file looks like GBK\); "
                                        "give its encoding: gb18030"):
        read(content)
    assert plain(read(content, encoding="gb18030")) == TIERS


@pytest.mark.parametrize("text", [
    LONG.replace("<exists>\nsize = 2", "<absent>").partition("item []:")[0],
    LONG.replace("size = 2\nitem", "size = 0\nitem").partition("    item [1]")[0],
], ids=["absent", "size 0"])
def test_no_tiers_is_no_fault(read, text):
    assert read(text).tiers == ()


def test_a_tier_without_intervals(read):
    head, _, tail = LONG.partition("        intervals [1]:")
    text = head.replace("intervals: size = 2", "intervals: size = 0") + "    item [2]:" + tail.partition("item [2]:")[2]
    assert plain(read(text)) == [("N_SPK8013", []), TIERS[1]]


# ---- odd, and read

@pytest.mark.parametrize("old, new, left, oddity", [
    ("xmax = 3.25", "xmax = 1.5", 1, ":16: interval at 1.5 s has no length; left out"),
    ("xmax = 3.25", "xmax = 1.25", 1, ":16: interval at 1.5 s has its end at 1.25 s, before its start; left out"),
    ("xmax = 3.25", "xmax = 6", 2,
     ":20: interval at 5 s of tier 'N_SPK8013' begins before an earlier one ends, at 6 s"),
    ("xmax = 9.75", "xmax = 11", 2, ":20: interval ends at 11 s, after its tier 'N_SPK8013', at 10.25 s"),
])
def test_oddities_are_noted_and_refused_when_strict(read, old, new, left, oddity):
    text = LONG.replace(old, new)
    grid = read(text)
    assert len(grid.tiers[0].intervals) == left
    assert [str(noted) for noted in grid.oddities] == [f"{grid.path}{oddity}"]
    with pytest.raises(DataError, match="x.TextGrid") as refused:
        read(text, strict=True)
    assert str(refused.value) == str(grid.oddities[0])


def test_all_oddities_are_told_together(read):
    with pytest.raises(DataErrors) as refused:
        read(LONG.replace("xmax = 3.25", "xmax = 1.5").replace("xmax = 9.75", "xmax = 11"), strict=True)
    assert len(refused.value.faults) == 2


def test_an_overlap_is_found_whatever_the_order(read):
    text = LONG.replace("xmin = 5", "xmin = 0.5").replace("xmax = 9.75", "xmax = 2")
    grid = read(text)
    assert len(grid.tiers[0].intervals) == 2
    assert ":16: interval at 1.5 s of tier" in str(grid.oddities[0])


def test_a_point_tier_is_left_out(read):
    text = LONG.replace("size = 2\nitem", "size = 3\nitem") + """\
    item [3]:
        class = "TextTier"
        name = "notes"
        xmin = 0
        xmax = 10.25
        points: size = 1
        points [1]:
            number = 2
            mark = "door"
"""
    grid = read(text)
    assert plain(grid) == TIERS
    assert [noted.message for noted in grid.oddities] == ["'notes' is a tier of 1 points; left out"]


# ---- refused

@pytest.mark.parametrize("old, new, message", [
    ("xmin = 1.5", "xmin = nan", ":16: 'nan' is no time; wanted seconds as a plain decimal number"),
    ("xmin = 1.5", "xmin = inf", ":16: 'inf' is no time"),
    ("xmin = 1.5", "xmin = 1,5", ":16: '1,5' is no time"),
    ("xmin = 1.5", "xmin = 1_5", ":16: '1_5' is no time"),
    ("xmin = 1.5", "xmin = -1", ":16: time of -1 s; wanted 0 or more"),
    ("xmin = 1.5", 'xmin = "1.5"', ":16: '\"1.5\"' in interval 1 of 2 of tier 'N_SPK8013'; wanted the start"),
    ('name = "N_SPK8014"', 'name = "N_SPK8013"',
     ":24: a second tier is called 'N_SPK8013'; the first begins on line 10"),
    ("intervals: size = 2", "intervals: size = 3",
     ":24: '\"IntervalTier\"' in interval 3 of 3 of tier 'N_SPK8013'; wanted the start"),
    ("intervals: size = 2", "intervals: size = 1",
     ":20: '5' in tier 2 of 2, after the 1 intervals of tier 'N_SPK8013'; wanted a tier's class"),
    ("intervals: size = 2", "intervals: size = two", ":14: 'two' is no number of intervals"),
    ("intervals: size = 1", "intervals: size = 2", ":32: file ends inside interval 2 of 2 of tier 'N_SPK8014'"),
    ("size = 2\nitem", "size = 3\nitem",
     ":32: file ends inside tier 3 of 3, after the 1 intervals of tier 'N_SPK8014'; wanted a tier's class"),
    ("size = 2\nitem", "size = 1\nitem", ":24: '\"IntervalTier\"' after the last tier; line 7 says 1 tiers"),
    ('"IntervalTier"', '"PitchTier"', ":10: tier 1 is of class 'PitchTier'; wanted IntervalTier or TextTier"),
    ('"TextGrid"', '"Pitch 1"', ":2: is no TextGrid: it calls itself 'Pitch 1'"),
    ('"ooTextFile"\nObject class = "TextGrid"', '"Praat chronological TextGrid text file"',
     ":1: is no TextGrid: it calls itself 'Praat chronological TextGrid text file'"),
    ('text = "嗯"', 'text = "嗯', ":32: a text without its closing quote; the file ends inside interval 1 of 1"),
    ("<exists>", "<perhaps>", ":6: '<perhaps>'; wanted <exists> or <absent>"),
])
def test_refusals(read, old, new, message):
    assert old in LONG
    with pytest.raises(DataError) as refused:
        read(LONG.replace(old, new, 1))
    assert f"x.TextGrid{message}" in str(refused.value)


@pytest.mark.parametrize("content, message", [
    (b"", "is empty; wanted a TextGrid"),
    (b"\n \n", "is empty; wanted a TextGrid"),
    (b"hello world", "is no TextGrid: it starts with 'hello world'"),
    (b"RIFF\x24\x80\x00\x00WAVEfmt ", "byte 0x80 is not UTF-8"),
    (LONG.encode("utf-16")[:-1], "is not UTF-16"),
])
def test_what_is_no_textgrid(read, content, message):
    with pytest.raises(DataError) as refused:
        read(content)
    assert message in str(refused.value)


def test_missing_files_and_unknown_encodings(read, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_textgrid(tmp_path / "nowhere.TextGrid")
    with pytest.raises(DataError, match="can't be read: is a directory"):
        read_textgrid(tmp_path)
    with pytest.raises(DataError, match="'klingon' is no encoding of text"):
        read(LONG, encoding="klingon")


def test_cut_anywhere_it_is_refused_or_whole(read):
    content = LONG.encode()
    whole = plain(read(content))
    for length in range(len(content) - 1):  # its last byte ends a line
        try:
            grid = read(content[:length])
        except DataError:
            continue
        assert plain(grid) == whole, length  # cut after the last value, e.g. in the line's end


@given(content=st.one_of(st.binary(max_size=300), st.lists(
    st.sampled_from(SHORT.split("\n") + ["-1", "nan", '"', '""', "<absent>", "!", "9" * 30, "\0"]), max_size=40
).map(lambda lines: "\n".join(lines).encode())))
def test_any_bytes_give_a_textgrid_or_a_data_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.TextGrid"
    path.write_bytes(content)
    try:
        grid = read_textgrid(path)
    except DataError as error:
        assert error.path == str(path)
    else:
        assert all(i.start_s < i.end_s for tier in grid.tiers for i in tier.intervals)


def test_trimming_to_the_recording():
    intervals = [Interval(1.0, 2.0, "a", 1), Interval(3.0, 5.0, "b", 2), Interval(6.0, 7.0, "c", 3)]
    assert trim_intervals(intervals, 7.0) == (intervals, 0)
    assert trim_intervals(intervals, 4.0) == ([intervals[0], dataclasses.replace(intervals[1], end_s=4.0)], 2)
    assert trim_intervals(intervals, 6.0) == (intervals[:2], 1)
