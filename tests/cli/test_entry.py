"""What every command shares: exit codes, --json on failure, options, and a --help that answers at once."""

import argparse
import contextlib
import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from speakerkit import __version__
from speakerkit.cli import entry, stopping, umbrella
from speakerkit.errors import ConfigError, DataError, DataErrors, MachineError, RecordingError


@pytest.fixture(autouse=True)
def as_it_was():
    """A command owns its process: its log handler and its signals are taken back here."""
    log, number = logging.getLogger("speakerkit"), signal.getsignal(signal.SIGTERM)
    before = log.handlers[:], log.level, log.propagate
    yield
    log.handlers[:], log.level, log.propagate = before
    signal.signal(signal.SIGTERM, number)


def run(function, *argv):
    parser = entry.make_parser("do-thing", "Do a thing.", "do-thing --quiet")
    return entry.run(parser, function, [str(word) for word in argv])


def raising(error):
    def function(args):
        args.report.update(num_utterances=3, eer_threshold=float("inf"))
        raise error

    return function


FULL = OSError(errno.ENOSPC, "No space left on device", "out.ark")
ENDS = [  # what is raised, exit code, status, the line on stderr
    (DataError("wav.scp", "is odd", 7), 1, "bad-data", "do-thing: wav.scp:7: is odd"),
    (RecordingError("a.wav", "silent", "no sound"), 1, "bad-data", "do-thing: a.wav: silent: no sound"),
    (ConfigError("x.toml: [fbank] is odd"), 2, "bad-configuration", "do-thing: x.toml: [fbank] is odd"),
    (MachineError("emb.ark: no space"), 75, "machine-failed", "do-thing: emb.ark: no space"),
    (FULL, 75, "machine-failed", "do-thing: out.ark: No space left on device"),
    (PermissionError(errno.EACCES, "Permission denied", "secret/a"), 75, "machine-failed",
     "do-thing: secret/a: can't be reached: permission denied"),
    (FileNotFoundError(errno.ENOENT, "No such file or directory"), 75, "machine-failed",  # os.getcwd's
     "do-thing: the working folder is gone; want one that is there"),
    (OSError(errno.ENAMETOOLONG, "File name too long", b"a"), 75, "machine-failed",
     "do-thing: a: can't be reached: file name too long"),
    (MemoryError("40 GB"), 75, "machine-failed", "do-thing: out of memory: 40 GB"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), 75, "machine-failed",
     "do-thing: out of memory: DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the manual"), 75, "machine-failed",
     "do-thing: out of memory: CUDA out of memory. Tried to allocate 2.00 GiB."),
    (KeyboardInterrupt(), 130, "stopped", "do-thing: stopped by Ctrl-C"),
    (stopping.Terminated(), 143, "stopped", "do-thing: stopped by SIGTERM"),
]


@pytest.mark.parametrize("words, name", [
    (["", "out"], "in"), (["in", ""], "EXP_DIR"), (["in", "out", "more", ""], "more"),
    (["in", "out", "--json", ""], "--json"), (["in", "out", "--init", ""], "--init"),
    (["in", "out", "--enrol", "a", ""], "--enrol"),
])
def test_an_empty_path_is_refused(capsys, words, name):
    """What an unset variable of a script gives: `train-model "$data" "$exp"` would train into the working folder."""
    parser = entry.make_parser("do-thing", "Do a thing.", "do-thing --quiet")
    parser.add_argument("in")
    parser.add_argument("out", metavar="EXP_DIR")
    parser.add_argument("more", nargs="*")
    parser.add_argument("--init", metavar="MODEL")
    parser.add_argument("--enrol", metavar="RECORDING", nargs="+")
    parser.add_argument("--domain", metavar="TEXT")
    assert entry.run(parser, pytest.fail, words) == 2
    assert capsys.readouterr().err == f"do-thing: argument {name}: is empty\nhint: do-thing --help\n"
    assert entry.run(parser, lambda args: None, ["in", "out", "--domain", ""]) == 0


@pytest.mark.parametrize("error, code, status, line", ENDS, ids=lambda value: type(value).__name__)
def test_ends(tmp_path, capsys, error, code, status, line):
    assert run(raising(error), "--json", tmp_path / "out.json") == code
    assert capsys.readouterr() == ("", line + "\n")
    report = json.loads((tmp_path / "out.json").read_text())
    assert report.pop("seconds") >= 0
    assert report.pop("error") in (line.removeprefix("do-thing: "), type(error).__name__)  # of a signal
    assert report == {"command": "do-thing", "schema": 1, "version": __version__, "status": status, "exit_code": code,
                      "num_utterances": 3, "eer_threshold": None}


def test_a_file_name_cannot_begin_a_line_or_move_the_cursor(capsys):
    assert run(raising(DataError("a\nb.wav", "no \x1b[2J\x9bfile", 3))) == 1
    assert capsys.readouterr().err == "do-thing: a\\nb.wav:3: no \\x1b[2J\\x9bfile\n"


def test_a_bug_shows_its_traceback(tmp_path, capsys):
    assert run(raising(KeyError("id7")), "--json", tmp_path / "out.json") == 70
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):") and "KeyError: 'id7'" in err
    assert err.endswith(f"do-thing: a bug in speakerkit {__version__}; please report it with the lines above\n")
    assert json.loads((tmp_path / "out.json").read_text())["status"] == "bug"


def test_many_faults_end_in_a_count(capsys):
    faults = [DataError("utt2spk", f"fault {number}", number) for number in range(1, 13)]
    assert run(raising(DataErrors(faults))) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"do-thing: utt2spk:{n}: fault {n}" for n in range(1, 11)] + ["do-thing: ... and 2 more"]


def test_a_signal_ends_it_in_order(capsys):
    def stop_myself(args):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(60)
        finally:
            args.report["was_cleaned_up"] = True
            print("cleaned up")

    assert run(stop_myself) == 143
    assert capsys.readouterr() == ("cleaned up\n", "do-thing: stopped by SIGTERM\n")


@pytest.mark.parametrize("signum, code, line", [
    (signal.SIGTERM, 143, "do-thing: stopped by SIGTERM\n"), (signal.SIGINT, 130, "do-thing: stopped by Ctrl-C\n")])
def test_a_signal_that_was_dropped_comes_again_but_never_while_cleaning_up(monkeypatch, capsys, signum, code, line):
    monkeypatch.setattr(stopping, "AGAIN_S", 0.01)
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.default_int_handler)  # begun in the background
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN), signal.getitimer(signal.ITIMER_REAL)

    def stop_and_drop_it(args):
        try:
            with contextlib.suppress(BaseException):  # as Python does in a destructor
                os.kill(os.getpid(), signum)
            threading.Event().wait(60)
        finally:
            until = time.monotonic() + 0.2
            while time.monotonic() < until:
                pass
            print("cleaned up")

    try:
        assert run(stop_and_drop_it) == code
        assert capsys.readouterr() == ("cleaned up\n", line)
        assert signal.signal(signal.SIGALRM, before[0]) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGALRM, before[0])
        signal.setitimer(signal.ITIMER_REAL, *before[1])


def test_success_with_json_on_standard_output(capsys):
    def function(args):
        args.report.update(eer_percent=1.5, protocol={"threshold": float("nan"), "counts": (1, float("-inf"))})
        entry.log.info("talk")

    assert run(function, "--json", "-") == 0
    out, err = capsys.readouterr()
    assert err == "do-thing: talk\n"
    report = json.loads(out, parse_constant=pytest.fail)
    assert (report["status"], report["exit_code"], report["eer_percent"]) == ("ok", 0, 1.5)
    assert report["protocol"] == {"threshold": None, "counts": [1, None]}
    assert "error" not in report


@pytest.mark.parametrize("option, value", [("recordings", ["b.wav", "./a.wav"]), ("model", "a.wav")])
def test_json_is_not_written_over_another_file(tmp_path, monkeypatch, capsys, option, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").write_text("sound")

    def main():
        parser = entry.make_parser("do-thing", "Do a thing.", "do-thing")
        parser.add_argument("--recordings", nargs="+")
        parser.add_argument("--model")
        words = value if isinstance(value, list) else [value]
        return entry.run(parser, lambda args: pytest.fail("began"), [f"--{option}", *words, "--json", "a.wav"])

    assert main() == 2
    assert capsys.readouterr().err == "do-thing: --json a.wav is another file of this command; want a name of its own\n"
    assert (tmp_path / "a.wav").read_text() == "sound"


@pytest.mark.parametrize("closed", ["<&-", "2>&-", ">&-"])
def test_a_standard_stream_that_is_closed(tmp_path, closed):
    program = ("from speakerkit.cli import entry\n"
               "parser = entry.make_parser('do-thing', 'Do a thing.', 'do-thing')\n"
               "def do(args):\n"
               "    stream = open('made', 'w')\n"
               "    entry.log.info('talk')\n"
               "    assert stream.fileno() > 2\n"
               "    print('result')\n"
               "raise SystemExit(entry.run(parser, do))\n")
    ended = subprocess.run(["bash", "-c", f'"$1" -c "$2" {closed}', "-", sys.executable, program], cwd=tmp_path,
                           capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    if closed == ">&-":
        assert ended.returncode == 75 and ended.stdout == ""
        assert ended.stderr.splitlines()[-1].startswith("do-thing: standard output is closed; want it open")
    else:
        assert (ended.returncode, ended.stdout) == (0, "result\n")


def test_json_that_cannot_be_written(tmp_path, capsys):
    assert run(lambda args: None, "--json", tmp_path) == 75
    assert f"do-thing: --json: {tmp_path}: can't be written: is a folder" in capsys.readouterr().err
    assert run(raising(DataError("x", "y")), "--json", tmp_path) == 1


def test_garbage_is_looked_for_less_often_and_not_at_the_end():
    program = """if True:
        import atexit, gc
        from speakerkit.cli import entry
        atexit.register(lambda: print(gc.get_freeze_count() > 0))  # what is registered first is called last
        before, parser = gc.get_threshold(), entry.make_parser("do-thing", "Do a thing.", "do-thing")
        entry.run(parser, lambda args: print(gc.get_threshold()[0]), [])
        print(gc.get_threshold() == before, gc.get_freeze_count())
    """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["10000", "True 0", "True"]


def test_quiet_keeps_warnings(capsys):
    def talk(args):
        entry.log.info("talk")
        entry.log.warning("%d files are odd", 3)

    assert run(talk) == run(talk, "--quiet") == 0
    assert capsys.readouterr().err == "do-thing: talk\n" + 2 * "do-thing: warning: 3 files are odd\n"


@pytest.mark.parametrize("argv, line", [
    (["--unknown"], "unrecognized arguments: --unknown"),
    (["--qui"], "unrecognized arguments: --qui"),  # no abbreviations: tomorrow's option may have the same beginning
    (["stray"], "unrecognized arguments: stray"),
    (["--json"], "argument --json: expected one argument"),
])
def test_wrong_command_lines(capsys, argv, line):
    assert run(lambda args: None, *argv) == 2
    assert capsys.readouterr().err == f"do-thing: {line}\nhint: do-thing --help\n"


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "11", "-1", "x", ""])
def test_numbers_out_of_range(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number from 0 to 10"):
        entry.number(float, 0, 10)(text)


def test_options_that_mean_the_same_everywhere():
    parser = entry.make_parser("do-thing", "Do a thing.", "do-thing")
    for add in (entry.add_output_options, entry.add_model_options, entry.add_nj_option, entry.add_seed_option,
                entry.add_audio_options, entry.add_operating_point_options, entry.add_config_option):
        add(parser)
    args = parser.parse_args([])
    assert args.nj == entry.usable_cores() == len(os.sched_getaffinity(0))
    assert (args.device, args.precision, args.overwrite, args.allow_pipes) == ("auto", "auto", False, False)
    assert (args.p_target, args.c_miss, args.c_fa) == (0.01, 1.0, 1.0)
    assert entry.max_bad(args)(1000) == 0
    assert entry.max_bad(parser.parse_args(["--max-bad", "7"]))(1000) == 7
    assert entry.max_bad(parser.parse_args(["--max-bad", "2.5%"]))(1000) == 25
    chosen = entry.audio_options(parser.parse_args(
        ["--channel", "1", "--pcm-rate", "8000", "--min-duration", "0.5", "--accept-truncated", "--allow-pipes"]))
    assert (chosen.channel, chosen.pcm_rate, chosen.min_duration_s) == (1, 8000, 0.5)
    assert chosen.accept_truncated and chosen.allow_pipes
    assert entry.audio_options(parser.parse_args(["--channel", "mix"])).channel == "mix"


@pytest.mark.parametrize("argv", [["--max-bad", "-1"], ["--max-bad", "101%"], ["--max-bad", "half"],
                                  ["--channel", "left"], ["--channel", "-1"], ["--min-duration", "0"],
                                  ["--pcm-rate", "16k"], ["--min-duration", "nan"]])
def test_audio_options_that_cannot_be(capsys, argv):
    parser = entry.make_parser("do-thing", "Do a thing.", "do-thing")
    entry.add_audio_options(parser)
    assert entry.run(parser, lambda args: None, argv) == 2
    assert f"argument {argv[0]}: '{argv[1].removesuffix('%')}" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:-1", "CPU", ""])
def test_devices_that_cannot_be(capsys, device):
    parser = entry.make_parser("do-thing", "Do a thing.", "do-thing")
    entry.add_model_options(parser)
    assert entry.run(parser, lambda args: None, ["--device", device]) == 2
    assert "is not auto, cpu, cuda or cuda:N" in capsys.readouterr().err


def test_the_command_that_would_finish():
    args = argparse.Namespace(command_line=["do-thing", "--max-bad", "3", "a b", "--max-bad=5%", "--nj", "2", "$x"])
    assert entry.command_line(args) == "do-thing 'a b' --nj 2 '$x'"


# --- in a process of their own -------------------------------------------------------------------------------------

TALKATIVE = r"""
import sys
from speakerkit.cli import entry

def talk(args):
    for number in range(200000):
        print("\u8bf4\u8bdd\u4eba", number)

sys.exit(entry.run(entry.make_parser("talk", "Talk.", "talk"), talk, []))
"""


def test_a_reader_that_leaves_ends_it_quietly():
    with subprocess.Popen([sys.executable, "-c", TALKATIVE], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}) as process:
        assert process.stdout.readline().decode() == "说话人 0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_full_disk_behind_standard_output():
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", TALKATIVE], stdout=full, stderr=subprocess.PIPE, text=True,
                               check=False)
    assert ended.returncode == 75
    assert ended.stderr.startswith("talk: output: No space left on device\n")


def cpu_seconds(*command) -> tuple[float, str]:
    """CPU time of a child that must end well, and what it printed."""
    with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True) as process:
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime, out


@pytest.mark.parametrize("verb", ["", *umbrella.VERBS])
def test_help_answers_at_once(verb):
    """Under 0.3 s of CPU time; the best of three, for a core shared with others counts more. Usually it is 0.1 s."""
    program = Path(sys.executable).parent / (verb or "speakerkit")
    seconds, out = min(cpu_seconds(program, "--help") for _ in range(3))
    assert seconds < 0.3
    assert f"usage: {verb or 'speakerkit VERB'}" in out and "example:\n" in out
    if verb:
        assert re.search(rf"example:\n  {verb} ", out)
        assert "--json" in out and "--quiet" in out


def test_verbs_and_commands_are_the_same(run_command):
    for verb in umbrella.VERBS:
        assert run_command("speakerkit", verb, "--version").stdout == f"{verb} (speakerkit {__version__})\n"
    ended = run_command("speakerkit", "--help")
    assert all(f"  {verb} " in ended.stdout for verb in umbrella.VERBS)


def test_the_umbrella_without_and_with_wrong_verbs(capsys):
    assert umbrella.main([]) == 2
    assert umbrella.main(["score-trial"]) == 2
    assert "unknown verb 'score-trial'; did you mean 'score-trials'?" in capsys.readouterr().err
    assert umbrella.main(["--version"]) == 0
    assert capsys.readouterr().out == f"speakerkit {__version__}\n"


def test_every_console_command_is_a_verb():
    import configparser

    setup = configparser.ConfigParser()
    setup.read(Path(__file__).resolve().parents[2] / "setup.cfg")
    commands = dict(line.split(" = ") for line in setup["options.entry_points"]["console_scripts"].split("\n") if line)
    assert commands.pop("speakerkit") == "speakerkit.cli.umbrella:main"
    assert commands == {verb: f"speakerkit.cli.{module}:main" for verb, (module, _) in umbrella.VERBS.items()}
