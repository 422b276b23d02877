"""break-down-results as a user meets it."""

import json
import os

import numpy as np
import pytest

from speakerkit.cli.break_down_results import main
from speakerkit.cli.compute_metrics import main as compute_metrics

# Two enrolments (one genre each) against three tests; scores 1..6 in the order of the lines.
TRIALS = "e1 a target\ne1 b nontarget\ne1 c nontarget\ne2 a nontarget\ne2 b target\ne2 c target\n"
SCORES = "e1 a 5\ne1 b 1\ne1 c 2\ne2 a 4\ne2 b 3\ne2 c 6\n"
GENRES = "e1 drama\ne2 vlog\na vlog\nb drama\nc drama\n"
# Tests a: target 5, nontarget 4. Tests b and c: targets 3, 6, nontargets 1, 2.
TABLE = """\
test_genre  num_target  num_nontarget  eer_percent  eer_threshold  min_dcf  min_dcf_threshold  note
all                  3              3      33.3333         4.0000   0.3333             5.0000
drama                2              2       0.0000         3.0000   0.0000             3.0000  rests on 0 errors
vlog                 1              1       0.0000         5.0000   0.0000             5.0000  rests on 0 errors
"""
CROSSED = """\
enrol_genre  test_genre  num_target  num_nontarget  eer_percent  eer_threshold  min_dcf  min_dcf_threshold  note
all          all                  3              3      33.3333         4.0000   0.3333             5.0000
drama        drama                0              2            -              -        -                  -  no target trials
drama        vlog                 1              0            -              -        -                  -  no nontarget trials
vlog         drama                2              0            -              -        -                  -  no nontarget trials
vlog         vlog                 0              1            -              -        -                  -  no target trials
"""  # noqa: E501 - as it is printed


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (("trials", TRIALS), ("scores", SCORES), ("utt2genre", GENRES)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_tables_on_stdout(folder, capsys):
    assert main(["trials", "scores", "--quiet", "--by", "test=utt2genre"]) == 0
    assert capsys.readouterr() == (TABLE, "")
    assert main(["trials", "scores", "--quiet", "--by", "test=utt2genre",
                 "--by", "enrol=utt2genre", "test=utt2genre"]) == 0
    assert capsys.readouterr().out == TABLE + "\n" + CROSSED


def test_json(folder, capsys):
    assert main(["trials", "scores", "--by", "test=utt2genre", "--nontargets-by", "pair=utt2genre", "--quiet",
                 "--json", "result.json"]) == 0
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert (result["num_target"], result["eer_percent"]) == (3, pytest.approx(100 / 3))
    assert result["protocol"]["scores"] == "scores"
    genre, pair = result["breakdowns"]
    assert (genre["by"], genre["share_targets"], genre["values"]) == (["test_genre"], False, [["drama", "vlog"]])
    assert list(genre["tables"]) == ["utt2genre"]
    assert genre["cells"][0] == {
        "values": ["drama"], "num_target": 2, "num_nontarget": 2, "eer_percent": 0, "eer_threshold": 3, "min_dcf": 0,
        "min_dcf_threshold": 3, "note": "rests on 0 errors"}
    # All targets (3, 5, 6) in either row. Same genre: e1 b, e1 c, e2 a: 1, 2, 4. Other genres: none.
    assert [(cell["values"], cell["num_target"], cell["num_nontarget"]) for cell in pair["cells"]] == [(["same"], 3, 3)]


def test_no_number_for_one_class(folder, capsys):
    assert main(["trials", "scores", "--by", "enrol=utt2genre", "test=utt2genre", "--quiet", "--json", "r.json"]) == 0
    cells = json.loads((folder / "r.json").read_text(encoding="utf-8"))["breakdowns"][0]["cells"]
    assert {cell["note"] for cell in cells} == {"no target trials", "no nontarget trials"}
    assert {cell[name] for cell in cells for name in ("eer_percent", "eer_threshold", "min_dcf")} == {None}


def test_infinite_thresholds_are_no_missing_numbers(folder, capsys):
    (folder / "scores").write_text("".join(f"{line[:5]}1\n" for line in SCORES.splitlines()), encoding="utf-8")
    assert main(["trials", "scores", "--quiet", "--by", "test=utt2genre"]) == 0
    row = capsys.readouterr().out.splitlines()[2].split()
    assert row[:7] == ["drama", "2", "2", "50.0000", "inf", "1.0000", "inf"]


def test_markdown_has_a_matrix_of_two_factors(folder, capsys):
    assert main(["trials", "scores", "--quiet", "--by", "pair=utt2genre", "test=utt2genre", "--markdown", "x.md"]) == 0
    lines = (folder / "x.md").read_text(encoding="utf-8").splitlines()
    assert lines[:3] == ["# Results by condition", "", "## pair_genre x test_genre"]
    # same: drama 1, 2 (nontargets); vlog 4 (nontarget). different: drama 3, 6 (targets); vlog 5 (target).
    start = lines.index("eer_percent, a row pair_genre, a column test_genre:")
    assert lines[start + 2:start + 6] == ["|  | drama | vlog |", "|---|---|---|", "| same | - | - |",
                                          "| different | - | - |"]
    assert "| same | drama | 0 | 2 | - | - | - | - | no target trials |" in lines
    assert "- scores: scores" in lines


def test_a_cell_is_the_list_of_its_trials(folder, capsys):
    """On random scores with ties: the cell's row equals compute-metrics on the lines that grep would keep."""
    rng = np.random.default_rng(5)
    rows = [(f"e{i}", f"t{j}", rng.integers(10) / 10 + (i % 7 == j % 7) / 2, i % 7 == j % 7)
            for i in range(14) for j in range(40)]
    words = ["nontarget", "target"]
    (folder / "trials").write_text("".join(f"{e} {t} {words[y]}\n" for e, t, _, y in rows), encoding="utf-8")
    (folder / "scores").write_text("".join(f"{e} {t} {s:.1f}\n" for e, t, s, _ in rows), encoding="utf-8")
    (folder / "utt2kind").write_text("".join(f"t{j} k{j % 3}\n" for j in range(40)), encoding="utf-8")
    point = ["--p-target", "0.05", "--c-miss", "10"]
    assert main(["trials", "scores", "--quiet", "--by", "test=utt2kind", "--json", "all.json", *point]) == 0
    cells = json.loads((folder / "all.json").read_text(encoding="utf-8"))["breakdowns"][0]["cells"]
    assert [cell["values"] for cell in cells] == [["k0"], ["k1"], ["k2"]]
    assert sum(cell["num_target"] + cell["num_nontarget"] for cell in cells) == len(rows)
    for kind, cell in enumerate(cells):
        kept = [row for row in rows if int(row[1][1:]) % 3 == kind]
        (folder / "part").write_text("".join(f"{e} {t} {words[y]}\n" for e, t, _, y in kept), encoding="utf-8")
        (folder / "part.scores").write_text("".join(f"{e} {t} {s:.1f}\n" for e, t, s, _ in kept), encoding="utf-8")
        assert compute_metrics(["part", "part.scores", "--quiet", "--json", "one.json", *point]) == 0
        one = json.loads((folder / "one.json").read_text(encoding="utf-8"))
        for name in ("num_target", "num_nontarget", "eer_percent", "eer_threshold", "min_dcf", "min_dcf_threshold"):
            assert cell[name] == one[name]


@pytest.mark.parametrize("words, code, told", [
    ([], 2, "by what? give --by or --nontargets-by; break-down-results --help shows how\n"),
    (["--by", "genre"], 2, "argument --by: 'genre' is not enrol=TABLE, test=TABLE or pair=TABLE\n"
                           "hint: break-down-results --help\n"),
    (["--by", "test=utt2dur:5,2"], 2, "argument --by: 'test=utt2dur:5,2' has edges that don't ascend\n"
                                      "hint: break-down-results --help\n"),
    (["--by", "test=utt2dur:5,,9"], 2, "argument --by: '' is not a number from -1e+12 to 1e+12\n"
                                       "hint: break-down-results --help\n"),
    (["--by", "test=utt2genre", "--markdown", "./utt2genre"], 2, "--markdown ./utt2genre is one of the inputs\n"),
    (["--by", "test=nowhere"], 1, "nowhere: no such file\n"),
    (["--by", "enrol=utt2genre:2"], 1, "utt2genre:1: value is 'drama'; wanted a finite decimal number\n"
                                       "break-down-results: utt2genre:2: value is 'vlog'; wanted a finite decimal "
                                       "number\n"),
])
def test_what_is_refused(folder, capsys, words, code, told):
    assert main(["trials", "scores", *words]) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"break-down-results: {told}")


def test_a_table_may_be_a_pipe(folder, run_command):
    reader, writer = os.pipe()
    os.write(writer, GENRES.encode())
    os.close(writer)
    result = run_command("break-down-results", "trials", "scores", "--quiet", "--by", f"test=/dev/fd/{reader}",
                         cwd=folder, pass_fds=[reader])
    os.close(reader)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[2].split()[:3] == ["drama", "2", "2"]
