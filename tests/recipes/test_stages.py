"""stages.sh: options without eval, stages, markers; run by bash in folders of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).resolve().parents[2] / "recipes"

RECIPE = """\
#!/usr/bin/env bash
# Do three things to a file.
# usage: run.sh [options]

set -euo pipefail
cd "$(dirname "$0")"
. "{recipes}/stages.sh"

stage=1        # start here
stop_stage=100
exp_dir=exp    # where results go
max_bad=0
model=
allow_pipes=false
nj=2
dry_run=false
parse_options "$@"
later=1
log_dir=$exp_dir/log

if stage 1 "make"; then
  once "$exp_dir/.made" bash -c 'cat input > made; echo make >> ran'
fi
if stage 2 "check"; then
  once "$exp_dir/.checked" bash -c 'echo check >> ran; grep -q good made' check made "$max_bad" --nj "$nj"
fi
if stage 3 "tell"; then
  always echo "exp_dir=$exp_dir allow_pipes=$allow_pipes model=$model"
fi
"""


@pytest.fixture
def recipe(tmp_path):
    """A recipe of three stages; ``recipe(*options)`` runs it from a neighbouring folder."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "run.sh").write_text(RECIPE.format(recipes=RECIPES))
    (folder / "input").write_text("good")
    (tmp_path / "caller").mkdir()

    def run(*options: str) -> subprocess.CompletedProcess:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(["bash", "../recipe/run.sh", *options], cwd=tmp_path / "caller", capture_output=True,
                              text=True, env={**os.environ, "PATH": path}, timeout=60, check=False)

    run.folder, run.caller = folder, tmp_path / "caller"
    run.ran = lambda: (folder / "ran").read_text().split() if (folder / "ran").exists() else []
    return run


def test_all_stages_run_in_order_and_end_in_a_table(recipe):
    result = recipe()
    assert result.returncode == 0, result.stderr
    assert recipe.ran() == ["make", "check"]
    assert result.stdout == "exp_dir=exp allow_pipes=false model=\n"
    assert "== stage 2: check" in result.stderr
    assert [line.split()[0] for line in result.stderr.splitlines()[-4:]] == ["stage", "1", "2", "3"]


def test_a_second_run_does_nothing(recipe):
    recipe()
    result = recipe("--stop-stage", "2")
    assert result.returncode == 0
    assert recipe.ran() == ["make", "check"]
    assert result.stderr.count("up to date: ") == 2


@pytest.mark.parametrize("options, ran", [
    (("--stage", "2"), ["check"]),
    (("--stop-stage", "1"), ["make"]),
    (("--stage=2", "--stop-stage=2"), ["check"]),
    (("--stage", "3"), []),
])
def test_stage_ranges(recipe, options, ran):
    (recipe.folder / "made").write_text("good")
    assert recipe(*options).returncode == 0
    assert recipe.ran() == ran


def test_a_changed_option_runs_its_stage_again(recipe):
    recipe()
    recipe("--max-bad", "3")
    assert recipe.ran() == ["make", "check", "check"]


def test_the_number_of_workers_changes_nothing(recipe):
    recipe()
    recipe("--nj", "7")
    assert recipe.ran() == ["make", "check"]


def test_a_changed_file_runs_what_names_it_again(recipe):
    recipe()
    (recipe.folder / "made").write_text("good again")  # named by stage 2's command line only
    recipe()
    assert recipe.ran() == ["make", "check", "check"]


def test_a_missing_file_runs_what_names_it_again(recipe):
    recipe()
    (recipe.folder / "made").unlink()
    assert recipe().returncode != 0  # stage 1 doesn't name what it makes, so stage 2 is where it is missed
    assert recipe.ran() == ["make", "check", "check"]


def test_a_failing_command_stops_the_recipe(recipe):
    (recipe.folder / "input").write_text("bad")
    result = recipe()
    assert result.returncode == 1
    assert recipe.ran() == ["make", "check"]
    assert "stage 3" not in result.stderr  # neither begun nor in the table
    assert "run.sh: failed with exit code 1; to repeat it:\n  cd " in result.stderr
    assert "failed (exit code 1)" in result.stderr.splitlines()[-1]
    (recipe.folder / "input").write_text("good")
    (recipe.folder / "exp" / ".made").unlink()
    assert recipe().returncode == 0  # no marker was left behind by the failure
    assert recipe.ran() == ["make", "check", "make", "check"]


def test_exit_codes_are_passed_on(recipe):
    script = recipe.folder / "run.sh"
    script.write_text(script.read_text().replace("always echo", "always bash -c 'exit 75'"))
    assert recipe().returncode == 75


def test_a_value_is_never_looked_into(recipe):
    result = recipe("--exp-dir", "$(touch x)`touch y`;touch z", "--max-bad", "$(touch w)")
    assert result.returncode == 0, result.stderr
    for folder in (recipe.folder, recipe.caller):
        assert not [name for name in "wxyz" if (folder / name).exists()]
    assert (recipe.caller / "$(touch x)`touch y`;touch z" / ".made").exists()


def test_given_paths_are_the_callers_and_defaults_the_recipes(recipe):
    recipe("--exp-dir", "there")
    assert (recipe.caller / "there" / ".made").exists()
    recipe()
    assert (recipe.folder / "exp" / ".made").exists()


def test_a_model_is_a_path_of_the_callers_or_a_bundled_name(recipe):
    (recipe.caller / "mine.safetensors").write_text("")
    told = recipe("--model", "mine.safetensors", "--stage", "3").stdout
    assert os.path.samefile(told.rstrip().partition("model=")[2], recipe.caller / "mine.safetensors")
    assert recipe("--model", "bundled", "--stage", "3").stdout.endswith(" model=bundled\n")


@pytest.mark.parametrize("options, message", [
    (("--exp",), "unknown option '--exp'; run.sh --help lists them"),       # no abbreviations
    (("--exp_dir", "x"), "unknown option '--exp_dir'"),
    (("--later", "2"), "unknown option '--later'"),                         # set below parse_options
    (("--path", "x"), "unknown option '--path'"),                           # a variable, but not the recipe's
    (("--log-dir", "x"), "unknown option '--log-dir'"),
    (("--nj;touch x", "2"), "unknown option '--nj;touch x'"),
    (("--nj[$(touch x)]", "2"), "unknown option '--nj[$(touch x)]'"),
    (("--",), "unknown option '--'"),
    (("4",), "unknown option '4'"),
    (("--nj",), "--nj needs a value"),
    (("--nj", "--exp-dir", "x"), "--nj needs a value"),
    (("--allow-pipes=false",), "--allow-pipes takes no value"),
    (("--stage", "two"), "--stage is 'two'; want a whole number"),
    (("--stop-stage", "a[$(touch x)]"), "--stop-stage is 'a[$(touch x)]'; want a whole number"),
])
def test_wrong_command_lines(recipe, options, message):
    result = recipe(*options)
    assert result.returncode == 2
    assert f"run.sh: {message}" in result.stderr
    assert recipe.ran() == []
    assert not (recipe.folder / "x").exists()
    assert not (recipe.caller / "x").exists()


def test_flags_take_no_value(recipe):
    assert recipe("--allow-pipes", "--stage", "3").stdout == "exp_dir=exp allow_pipes=true model=\n"


def test_dry_run_says_what_and_why_and_does_nothing(recipe):
    recipe()
    (recipe.folder / "made").write_text("good again")
    before = sorted(recipe.folder.rglob("*"))
    result = recipe("--dry-run")
    assert result.returncode == 0
    assert recipe.ran() == ["make", "check"]
    assert sorted(recipe.folder.rglob("*")) == before
    assert "why: changed since: made" in result.stderr
    assert "why: it was made by another command line" in recipe("--dry-run", "--max-bad", "4").stderr
    assert "why: not done yet" in recipe("--dry-run", "--exp-dir", "other").stderr
    assert "would run: 'echo' " in result.stderr


def test_help_lists_options_and_stages_and_does_nothing(recipe):
    result = recipe("--help")
    assert result.returncode == 0
    assert "Do three things to a file." in result.stdout
    for line in ("--exp-dir=exp    # where results go", "--allow-pipes", "1  make", "2  check", "3  tell"):
        assert f"  {line}\n" in result.stdout
    assert "--later" not in result.stdout
    assert recipe.ran() == []


def test_each_stage_has_a_log_with_head_and_foot(recipe):
    (recipe.folder / "input").write_text("bad")
    script = recipe.folder / "run.sh"
    script.write_text(script.read_text().replace("echo check >> ran", "echo heard >&2; echo check >> ran"))
    recipe()
    log, = (recipe.folder / "exp" / "log").glob("2.*.log")
    lines = log.read_text().splitlines()
    assert lines[0].startswith("# 'bash' '-c'")
    assert "heard" in lines
    assert lines[-1].startswith("# ended (code 1), ")


def test_a_process_that_dies_leaves_no_marker(recipe):
    script = recipe.folder / "run.sh"
    script.write_text(script.read_text().replace("grep -q good made", "kill -9 $$"))
    assert recipe().returncode == 137
    assert not (recipe.folder / "exp" / ".checked").exists()


def test_recipes_hold_to_their_rules():
    for script in [RECIPES / "stages.sh", *RECIPES.glob("*/run.sh")]:
        code = [line.split("#")[0] for line in script.read_text().splitlines()]
        for banned in ("eval ", "2>/dev/null", "2> /dev/null", "|| true", "wait"):
            assert not [line for line in code if banned in line], f"{script}: {banned}"
