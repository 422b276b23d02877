"""Evaluation sets as they come: names, lists and folders in their variants; and a run killed again and again."""

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakerkit.errors import DataError
from speakerkit.io.trials import read_trials
from speakerkit.jobs.eval_eer import leave_out, result_in_markdown
from speakerkit.jobs.evaluation_set import find_evaluation_folder, read_evaluation_set
from speakerkit.jobs.scoring import OperatingPoint, make_protocol

LIST = "lists/trials.lst.speech"


@pytest.fixture
def make_set(tmp_path):
    """``make_set(names of files below eval/, lines)``: a folder whose recordings are empty files."""

    def make(names, lines, listed=LIST):
        for name in ("enroll/", "test/", "lists/", *names):
            path = tmp_path / "eval" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(exist_ok=True) if name.endswith("/") else path.touch()
        (tmp_path / "eval" / listed).write_text("".join(f"{line}\n" for line in lines))
        return find_evaluation_folder(tmp_path)

    return make


@pytest.mark.parametrize("enrol_file", ["id00800-enroll.wav", "id00800.wav", "id00800-enroll.flac", "id00800.flac"])
@pytest.mark.parametrize("enrol", ["id00800", "id00800-enroll", "enroll/id00800-enroll.wav"])
@pytest.mark.parametrize("test", ["id00800-speech-01-001", "test/id00800-speech-01-001.wav",
                                  "id00800-speech-01-001.flac"])
def test_names_of_lists_and_files(make_set, enrol_file, enrol, test):
    folder = make_set([f"enroll/{enrol_file}", "test/id00800-speech-01-001.flac", "test/b.wav"],
                      [f"{enrol} {test} 1", f"{enrol} b 0"])
    found = read_evaluation_set(folder, LIST)
    assert found.recordings == {enrol: f"{folder}/enroll/{enrol_file}",
                                test: f"{folder}/test/id00800-speech-01-001.flac", "b": f"{folder}/test/b.wav"}
    assert list(found.recordings)[0] == enrol
    assert found.trials.is_target.tolist() == [True, False]


@pytest.mark.parametrize("enrol, test", [
    ("enroll/a-enroll.wav", "test/b.flac"),          # as CN-Celeb's own lists have the test side
    ("./enroll/a", "./test/b"),
    ("eval/enroll/a-enroll", "eval/test/b.wav"),
    ("./eval/enroll/a", "./eval/test/b"),
    ("FOLDER/enroll/a.flac", "FOLDER/test/b"),
])
def test_lists_with_paths(make_set, tmp_path, enrol, test):
    folder = tmp_path / "eval"
    enrol, test = enrol.replace("FOLDER", str(folder)), test.replace("FOLDER", str(folder))
    found = read_evaluation_set(make_set(["enroll/a-enroll.wav", "test/b.wav", "test/c.wav"],
                                         [f"{enrol} {test} 1", f"{enrol} c 0"]), LIST)
    assert found.recordings == {enrol: f"{folder}/enroll/a-enroll.wav", test: f"{folder}/test/b.wav",
                                "c": f"{folder}/test/c.wav"}


def test_recordings_in_folders_of_their_speakers(make_set):
    folder = make_set(["enroll/a.wav", "test/s1/x.wav", "test/s2/x.wav"],
                      ["a test/s1/x.wav target", "a s2/x nontarget"])
    assert [path.removeprefix(f"{folder}/") for path in read_evaluation_set(folder, LIST).recordings.values()] == [
        "enroll/a.wav", "test/s1/x.wav", "test/s2/x.wav"]


def test_the_name_in_the_list_comes_first_and_wav_before_flac(make_set):
    folder = make_set(["enroll/a.wav", "enroll/a-enroll.wav", "enroll/a-enroll.flac", "test/b.wav", "test/b.flac",
                       "test/c.wav"], ["a-enroll b target", "a c nontarget"])
    assert [Path(path).name for path in read_evaluation_set(folder, LIST).recordings.values()] == [
        "a-enroll.wav", "a.wav", "b.wav", "c.wav"]


FILES = ["enroll/a-enroll.wav", "enroll/x.wav", "test/b.wav", "test/c.wav", "test/x.wav"]


@pytest.mark.parametrize("lines, place, message", [
    (["a b target", "a c nottarget"], 2, "label is 'nottarget'; want target/nontarget or 1/0, one vocabulary a file"),
    (["a b target", "a c 0"], 2, "label is '0'; want target/nontarget"),
    (["a b target", "a c nontarget x"], 2, "4 fields"),
    (["a b target", "z c nontarget"], 2, "'z' has no recording in FOLDER/enroll: want z.wav or z.flac or z-enroll.wav"),
    (["a b target", "a d nontarget"], 2, "'d' has no recording in FOLDER/test: want d.wav or d.flac"),
    (["a b target", "a ../enroll/x nontarget"], 2, "'../enroll/x' has no recording in FOLDER/test"),
    (["a b target", "a test/../enroll/x nontarget"], 2, "'test/../enroll/x' has no recording in FOLDER/test"),
    (["a b target", "a other/test/c nontarget"], 2, "'other/test/c' has no recording in FOLDER/test"),
    (["a b target", "a enroll/c nontarget"], 2, "'enroll/c' has no recording in FOLDER/test"),
    (["a b target", "/etc/passwd c nontarget"], 2, "'/etc/passwd' has no recording"),
    (["a b target", "x x nontarget"], 2, "'x' names an enrolment and a test recording"),
    (["a b", "a c"], None, "trials have no labels: EER needs both classes"),
    (["a b target", "a c target"], None, "no nontarget trials: EER needs both classes"),
    (["a b 0", "a c 0"], None, "no target trials: EER needs both classes"),
])
def test_faulty_lists(make_set, lines, place, message):
    folder = make_set(FILES, lines)
    with pytest.raises(DataError) as caught:
        read_evaluation_set(folder, LIST)
    assert caught.value.line == place
    assert caught.value.path == str(folder / LIST)
    assert message.replace("FOLDER", str(folder)) in str(caught.value)


def test_all_missing_recordings_are_told_in_the_order_of_their_lines(make_set):
    folder = make_set(FILES, ["a p target", "q b nontarget", "q r nontarget"])
    with pytest.raises(DataError) as caught:
        read_evaluation_set(folder, LIST)
    assert [fault.line for fault in caught.value.faults] == [1, 2, 3]


def test_other_lists_are_named(make_set, tmp_path, monkeypatch):
    folder = make_set(FILES, ["a b 1", "a c 0"], "lists/trials.lst")
    with pytest.raises(DataError, match=r"\.speech: no such list of trials; --trials can name lists/trials.lst$"):
        read_evaluation_set(folder, LIST)
    assert len(read_evaluation_set(folder, "lists/trials.lst").trials) == 2
    (tmp_path / "own").write_text("a b target\na c nontarget\na b target\n")
    monkeypatch.chdir(tmp_path)
    assert len(read_evaluation_set(folder, "own").trials) == 3


def test_folders(tmp_path):
    (tmp_path / "enroll").mkdir()
    with pytest.raises(DataError, match=r"holds no enroll/ and test/, nor does eval/ inside it"):
        find_evaluation_folder(tmp_path)
    (tmp_path / "test").mkdir()
    assert find_evaluation_folder(tmp_path) == tmp_path


def test_leave_out_by_hand(tmp_path):
    (tmp_path / "trials").write_text("a x 1\na y 0\nb x 0\nb z 1\na y 0\nc z 0\n")
    left = leave_out(read_trials(tmp_path / "trials"), {"b", "x"})
    pairs = [(left.enrol_ids[e], left.test_ids[t]) for e, t in zip(left.enrol_index, left.test_index, strict=True)]
    assert pairs == [("a", "y"), ("a", "y"), ("c", "z")]
    assert left.is_target.tolist() == [False, False, False]
    assert (left.enrol_ids, left.test_ids, left.num_repeated) == (["a", "c"], ["y", "z"], 1)


def test_result_page(tmp_path):
    (tmp_path / "trials").write_text("a x 1\na y 0\n")
    protocol = make_protocol(read_trials(tmp_path / "trials"), "concatenated file", OperatingPoint(0.01, 10, 1),
                             {"model": "small"})
    page = result_in_markdown({"num_target": 1, "eer_percent": 12.5, "min_dcf_threshold": None, "protocol": protocol})
    for line in ("# small on trials", "| eer_percent | 12.5000 |", "| min_dcf_threshold | inf |",
                 "- enrolment: concatenated file", "- c_miss: 10", "- precision: null"):
        assert line in page.splitlines()


# One process imports torch once and forks for each run; it has read no trials itself, for polars can't be forked.
# Archive, folders and outputs all count as places to be killed at: unpacking too.
RUN_KILLED = """
import os, sys
import torch, speakerkit.inference.extractor
from speakerkit.cli import eval_eer

corpus, folder, options = sys.argv[1], sys.argv[2], sys.argv[3:]

def run(output_dir, fault):
    if (pid := os.fork()) == 0:
        os.environ["SPEAKERKIT_FAULT"] = fault
        os._exit(eval_eer.main([corpus, *options, "--quiet", "--output-dir", output_dir]))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

codes = [run(folder + "/undisturbed", "")]
while len(codes) < 2 or codes[-1] == -9:
    codes.append(run(folder + "/killed", f"any:{9 * len(codes) - 4}:kill"))
print(*codes)
"""


@pytest.mark.timeout(400)  # seconds on an idle machine; importing torch alone can take a minute on a busy one
def test_killed_again_and_again_ends_as_undisturbed(small_model, tmp_path, read_tree):
    generator = np.random.default_rng(1)
    for name in ("enroll/s0-enroll", "enroll/s1-enroll", "test/s0-speech-1", "test/s1-speech-1"):
        path = tmp_path / "eval" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * generator.standard_normal(6000), 16000)
    (tmp_path / "eval" / "lists").mkdir()
    (tmp_path / "eval" / LIST).write_text("".join(
        f"s{e} s{t}-speech-1 {'target' if e == t else 'nontarget'}\n" for e in (0, 1) for t in (0, 1)))
    options = ["--model", small_model, "--nj", 1, "--precision", "float32", "--device", "cpu"]
    with tarfile.open(tmp_path / "eval.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "eval", "eval")
    result = subprocess.run([sys.executable, "-c", RUN_KILLED, tmp_path / "eval.tar.gz", tmp_path,
                             *map(str, options)], capture_output=True, text=True, timeout=380, check=False)
    assert result.returncode == 0, result.stderr
    first, *codes, last = map(int, result.stdout.splitlines()[-1].split())
    assert (first, last) == (0, 0), result.stderr
    assert codes == [-9] * len(codes)
    assert len(codes) >= 4
    undisturbed, killed = read_tree(tmp_path / "undisturbed"), read_tree(tmp_path / "killed")
    assert killed.keys() == undisturbed.keys()
    for name in ("scores", "emb.ark", "eval/test/s1-speech-1.wav"):
        assert killed[name] == undisturbed[name]
    assert killed["wav.scp"].replace(b"/killed", b"/undisturbed") == undisturbed["wav.scp"]
    assert killed["result.json"].replace(b"/killed", b"/undisturbed") == undisturbed["result.json"]
