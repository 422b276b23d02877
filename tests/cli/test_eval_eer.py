"""eval-eer from a tarball to a table, with a network of random weights and noise for voices."""

import gzip
import io
import json
import os
import tarfile

import numpy as np
import pytest
import soundfile
import torch

from speakerkit.cli import compute_metrics, eval_eer
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.inference.backends import load_extractor
from speakerkit.io import ark
from speakerkit.io.audio import load_audio
from speakerkit.models import model_file
from speakerkit.models.networks import initialise, make_network
from speakerkit.scoring.cosine import cosine_score

SPEAKERS = ("id00800", "id00801", "id00802")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = ModelConfig(embedding_dim=16, base_channels=4, num_blocks=(1, 1, 1, 1))
    network = make_network(config, 24)
    initialise(network, torch.Generator().manual_seed(1))
    path = tmp_path_factory.mktemp("model") / "x.safetensors"
    info = model_file.ModelInfo(name="small / test", model=config, fbank=FbankConfig(num_mel_bins=24))
    model_file.save_model(path, network.eval(), info)
    return path


@pytest.fixture(scope="module")
def members():
    """eval/ as the published archive has it: WAV files and a list that names neither folder nor extension."""
    found, generator = {}, np.random.default_rng(1)
    for number, speaker in enumerate(SPEAKERS):
        for name, seconds in ((f"enroll/{speaker}-enroll", 0.8), (f"test/{speaker}-speech-01-001", 0.4)):
            voice = generator.standard_normal(int(16000 * seconds))
            voice = np.convolve(voice, np.ones(1 + 3 * number) / (1 + 3 * number), "same")
            stream = io.BytesIO()
            soundfile.write(stream, 0.1 * voice, 16000, format="WAV", subtype="PCM_16")
            found[f"eval/{name}.wav"] = stream.getvalue()
    found["eval/lists/trials.lst.speech"] = "".join(
        f"{enrol}-enroll {test}-speech-01-001 {'target' if enrol == test else 'nontarget'}\n"
        for enrol in SPEAKERS for test in SPEAKERS).encode()
    return found


def write_tarball(path, members, **fields):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_500_000_000
            if name in fields:
                info.type, info.linkname, info.size = fields[name], "/etc/passwd", 0
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(gzip.compress(stream.getvalue(), 1))
    return path


@pytest.fixture
def tarball(tmp_path, members):
    return write_tarball(tmp_path / "eval.tar.gz", members)


@pytest.fixture
def run(model, tmp_path, capsys):
    """``run(corpus, *options)``: the exit code, standard output as a dictionary, standard error."""

    def call(corpus, *options, output_dir=tmp_path / "out"):
        place = [] if output_dir is None else ["--output-dir", str(output_dir)]
        code = eval_eer.main([str(corpus), "--model", str(model), "--precision", "float32", "--device", "cpu", "--nj",
                              "1", *place, *map(str, options)])
        captured = capsys.readouterr()
        return code, dict(line.split(" ", 1) for line in captured.out.splitlines()), captured.err

    return call


def test_from_the_tarball_to_the_table(run, tarball, model, tmp_path, capsys):
    code, out, err = run(tarball, "--json", tmp_path / "j")
    assert code == 0, err
    assert list(out) == ["num_target", "num_nontarget", "eer_percent", "eer_threshold", "min_dcf", "min_dcf_threshold",
                         "dcf_p_target", "dcf_c_miss", "dcf_c_fa"]
    assert (out["num_target"], out["num_nontarget"]) == ("3", "6")
    assert (out["dcf_p_target"], out["dcf_c_miss"], out["dcf_c_fa"]) == ("0.01", "10", "1")
    folder = tmp_path / "out"
    assert sorted(path.name for path in folder.iterdir()) == [
        "emb.ark", "emb.ark.manifest.json", "emb.scp", "eval", "result.json", "result.json.manifest.json", "result.md",
        "scores", "wav.scp"]
    embeddings = ark.read_vectors(folder / "emb.scp")
    assert list(embeddings) == [*(f"{s}-enroll" for s in SPEAKERS), *(f"{s}-speech-01-001" for s in SPEAKERS)]

    extractor = load_extractor(model, "cpu", "float32")
    pair = [extractor.embed_samples(*load_audio(folder / "eval" / name)) for name in
            ("enroll/id00800-enroll.wav", "test/id00802-speech-01-001.wav")]
    lines = (folder / "scores").read_text().splitlines()
    enrol_id, test_id, score = lines[2].split()
    assert (len(lines), enrol_id, test_id) == (9, "id00800-enroll", "id00802-speech-01-001")
    assert float(score) == pytest.approx(cosine_score(*pair), abs=1e-5)

    report, result = (json.loads(path.read_text()) for path in (tmp_path / "j", folder / "result.json"))
    assert {name: report[name] for name in result} == result
    assert report["protocol"] == result["protocol"]
    wanted = {"enrolment": "concatenated file", "num_trials": 9, "num_trials_left_out": 0, "p_target": 0.01,
              "c_miss": 10.0, "c_fa": 1.0, "model": "small / test", "model_sha256": model_file.sha256_of(model),
              "precision": "float32", "corpus": str(tarball)}
    assert wanted.items() <= result["protocol"].items()
    assert {"trials", "trials_sha256", "corpus_sha256"} <= result["protocol"].keys()
    assert f"| eer_percent | {out['eer_percent']} |" in (folder / "result.md").read_text()

    list_path = folder / "eval" / "lists" / "trials.lst.speech"
    assert compute_metrics.main([str(list_path), str(folder / "scores"), "--c-miss", "10"]) == 0
    assert dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines()) == out

    again = run(tarball)
    assert again[:2] == (0, out)
    assert "result.json: nothing to do" in again[2]


def test_a_folder_gives_the_same_and_changed_options_need_overwrite(run, members, tmp_path):
    for name, data in members.items():
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    code, out, _ = run(tmp_path / "corpus")
    assert code == 0
    assert not (tmp_path / "out" / "eval").exists()
    assert run(tmp_path / "corpus" / "eval", output_dir=tmp_path / "out3")[1] == out

    code, nothing, err = run(tmp_path / "corpus", "--c-miss", 1)
    assert (code, nothing) == (2, {})
    assert "c_miss" in err and "--overwrite" in err
    code, out, err = run(tmp_path / "corpus", "--c-miss", 1, "--overwrite")
    assert (code, out["dcf_c_miss"]) == (0, "1")
    assert "emb.ark: nothing to do" in err

    for name in ("emb.ark", "emb.scp"):  # a part of the result is gone: made again
        (tmp_path / "out" / name).unlink()
    code, _, err = run(tmp_path / "corpus", "--c-miss", 1)
    assert code == 0
    assert "result.json: nothing to do" not in err
    assert (tmp_path / "out" / "emb.ark").exists()


def as_flac(wav):
    stream = io.BytesIO()
    soundfile.write(stream, *soundfile.read(io.BytesIO(wav), dtype="int16"), format="FLAC", subtype="PCM_16")
    return stream.getvalue()


@pytest.mark.parametrize("top, line, labels, enrol_name, audio", [
    ("eval/", "{enrol} {test}-speech-01-001 {label}\n", ("nontarget", "target"), "{}-enroll", "wav"),
    ("", "{enrol} {test}-speech-01-001.wav {label}\n", ("0", "1"), "{}-enroll", "flac"),
    ("./", "enroll/{enrol}-enroll.wav test/{test}-speech-01-001.wav {label}\r\n", ("0", "1"), "{}", "wav"),
    ("CN-Celeb_flac/eval/", "{enrol}-enroll test/{test}-speech-01-001.wav {label}\n", ("0", "1"), "{}-enroll",
     "flac"),  # the published archive's own way
    ("a/eval/", "{enrol}-enroll.flac eval/test/{test}-speech-01-001 {label}\n", ("nontarget", "target"), "{}",
     "flac"),
])
def test_every_form_of_the_package_gives_the_same(run, members, tmp_path, top, line, labels, enrol_name, audio):
    form = {}
    for name, data in members.items():
        name = name.removeprefix("eval/")
        if name.startswith("lists/"):
            data = "".join(line.format(enrol=enrol, test=test, label=labels[enrol == test])
                           for enrol in SPEAKERS for test in SPEAKERS).encode()
        else:
            name = name.replace("-enroll", enrol_name.format("")).replace(".wav", f".{audio}")
            data = as_flac(data) if audio == "flac" else data
        form[top + name] = data
    if top == "a/eval/":
        form["a/README"] = b"more than eval/ at the top"
    code, out, err = run(write_tarball(tmp_path / "form.tar.gz", form))
    assert code == 0, err
    assert (out["num_target"], out["num_nontarget"]) == ("3", "6")
    scores = [float(row.split()[2]) for row in (tmp_path / "out" / "scores").read_text().splitlines()]
    plain_code, plain, _ = run(write_tarball(tmp_path / "plain.tar.gz", members), output_dir=tmp_path / "plain")
    wanted = [float(row.split()[2]) for row in (tmp_path / "plain" / "scores").read_text().splitlines()]
    assert (plain_code, scores, out) == (0, wanted, plain)


def test_another_list_is_another_result(run, members, tmp_path):
    lists = "eval/lists/trials.lst"
    rows = members["eval/lists/trials.lst.speech"].decode().splitlines(keepends=True)
    tarball = write_tarball(tmp_path / "two.tar.gz", members | {lists: "".join(rows[:5]).encode()})
    assert run(tarball)[0] == 0
    code, out, err = run(tarball, "--trials", "lists/trials.lst")
    assert (code, out) == (2, {})
    assert "trials has changed since" in err and "--overwrite" in err
    code, out, err = run(tarball, "--trials", "lists/trials.lst", "--json", tmp_path / "j", "--overwrite")
    assert (code, out["num_target"], out["num_nontarget"]) == (0, "2", "3"), err
    assert json.loads((tmp_path / "j").read_text())["protocol"]["trials"].endswith("/eval/lists/trials.lst")
    code, out, err = run(tarball, "--trials", "lists/trials.lst.vocals")
    assert (code, out) == (1, {})
    assert "no such list of trials; --trials can name lists/trials.lst, lists/trials.lst.speech" in err


def test_the_default_place_is_named_after_the_model(run, tarball, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(tarball, output_dir=None)[0] == 0
    name = f"small_test-{model_file.sha256_of(model)[:8]}"
    assert (tmp_path / "exp" / "eval-eer" / name / "result.json").exists()


def test_bad_recordings(run, members, tmp_path):
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(16000), 16000, format="WAV")
    tarball = write_tarball(tmp_path / "bad.tar.gz", members | {"eval/enroll/id00801-enroll.wav": stream.getvalue()})
    code, out, err = run(tarball, "--json", tmp_path / "j")
    assert (code, out) == (1, {})
    assert "1 of 6 recordings can't be used, first 'id00801-enroll'" in err
    assert "silent" in err and "--max-bad 1" in err
    assert json.loads((tmp_path / "j").read_text())["bad_silent"] == 1
    assert not (tmp_path / "out" / "result.json").exists()
    assert not (tmp_path / "out" / "emb.ark").exists()

    code, out, err = run(tarball, "--max-bad", 1)
    assert (code, out["num_target"], out["num_nontarget"]) == (0, "2", "4")
    left_out = "3 of 9 trials left out with the 1 recordings that can't be used: this result compares with no other"
    assert left_out in err
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["protocol"]["num_trials_left_out"] == 3
    code, _, err = run(tarball)
    assert code == 0
    assert left_out in err and "nothing to do" in err


@pytest.mark.parametrize("name, kind, message", [
    ("eval/../../evil", None, "member 'eval/../../evil' has '..' in its path"),
    ("eval/enroll/link.wav", tarfile.SYMTYPE, "'eval/enroll/link.wav' is a symbolic link; only regular files"),
    ("eval/enroll/disk.wav", tarfile.BLKTYPE, "'eval/enroll/disk.wav' is a block device"),
])
def test_hostile_archives(run, members, tmp_path, name, kind, message):
    fields = {} if kind is None else {name: kind}
    tarball = write_tarball(tmp_path / "bad.tar.gz", members | {name: b"payload"}, **fields)
    code, out, err = run(tarball, output_dir=tmp_path / "a" / "out")
    assert (code, out) == (1, {})
    assert f"eval-eer: {tarball}: {message}" in err
    assert list((tmp_path / "a" / "out").iterdir()) == []
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("corpus, message", [
    ("nowhere.tar.gz", "nowhere.tar.gz: no such file"),
    ("page.tar.gz", "page.tar.gz: is a web page"),
    ("cut.tar.gz", "cut.tar.gz: cut or still being written"),
    ("folder", "folder: holds no enroll/ and test/"),
    ("pipe", "pipe: is a pipe; want a regular file: .tar.gz or .tar"),
    ("/dev/zero", "/dev/zero: is a device; want a regular file"),
    ("list.tar.gz", "trials.lst.speech:9: label is 'yes'; want target/nontarget or 1/0, one vocabulary a file"),
    ("missing.tar.gz", "trials.lst.speech:2: 'id00801-speech-01-001' has no recording in"),
])
def test_refusals_before_any_work(run, members, tmp_path, monkeypatch, corpus, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "page.tar.gz").write_text("<!DOCTYPE html>" + "x" * 100)
    whole = write_tarball(tmp_path / "whole.tar.gz", members).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[:-4])
    lists = "eval/lists/trials.lst.speech"
    write_tarball(tmp_path / "list.tar.gz", members | {lists: members[lists][:-len(b"target\n")] + b"yes\n"})
    write_tarball(tmp_path / "missing.tar.gz", {name: data for name, data in members.items()
                                                if name != "eval/test/id00801-speech-01-001.wav"})
    code, out, err = run(corpus)
    assert (code, out) == (1, {})
    assert message in err
    assert not (tmp_path / "out" / "emb.ark.parts").exists()


def test_the_installed_command_tells_its_formats(run_command):
    result = run_command("eval-eer", "--help")
    assert result.returncode == 0
    assert "lists/trials.lst.speech" in result.stdout
    assert "default: 10.0" in result.stdout


def test_a_card(run, tarball, model, tmp_path):
    code, _, err = run(tarball, "--card", tmp_path / "card", "--protocol-name", "noise")
    assert code == 0, err
    assert "no confidence intervals: 3 speakers have target trials; want at least 10" in err
    card, result = (json.loads(path.read_text()) for path in (tmp_path / "card.json", tmp_path / "out" / "result.json"))
    assert (card["protocol"]["name"], card["protocol"]["enrolment"]) == ("noise", "concatenated file")
    assert card["protocol"]["corpus_sha256"] == result["protocol"]["corpus_sha256"]
    assert (card["model"]["name"], card["model"]["sha256"]) == ("small / test", result["sha256"])
    assert (card["eer_percent"], card["dcf"][3]["min_dcf"]) == (pytest.approx(result["eer_percent"]),
                                                                pytest.approx(result["min_dcf"]))
    assert card["excluded"] == {"num_trials": 0, "num_recordings": 0, "reasons": {}, "bad_lists": []}
    code, _, err = run(tarball, "--card", tmp_path / "another", "--replicates", "0")
    assert code == 0 and "nothing to do" in err  # only the card is made
    assert (tmp_path / "another.md").exists()


def test_a_card_says_what_was_left_out(run, tmp_path, members):
    silent = {**members, "eval/test/id00801-speech-01-001.wav": members["eval/test/id00801-speech-01-001.wav"][:44]
              + bytes(12800)}
    code, _, err = run(write_tarball(tmp_path / "bad.tar.gz", silent), "--max-bad", "1", "--card", tmp_path / "card")
    assert code == 0, err
    excluded = json.loads((tmp_path / "card.json").read_text())["excluded"]
    assert (excluded["num_trials"], excluded["num_recordings"], excluded["reasons"]) == (3, 1, {"silent": 1})
    page = (tmp_path / "card.md").read_text()
    assert "- 3 trials were left out: this result compares with no other." in page
    assert "- left out: 3 trials, 1 recordings (1 silent)" in page
