"""What a teacher model says of every training speaker: the embedding that the network is drawn to.

A teacher that has heard many speakers knows where a voice lies among all voices; a few dozen
speakers can't tell a network that. Every class (a speaker in one voice: at one speed, through one
vocal tract) gets one target, the mean of the teacher's length-normalised embeddings of a few of its
recordings, whole and undisturbed; training adds 1 - cosine of the network's embedding to it. The
student's embeddings then live in the teacher's space, whichever disturbances its chunks went through.
"""

import logging
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from tqdm import tqdm

from speakerkit.config import SystemConfig
from speakerkit.errors import ConfigError, DataError
from speakerkit.io import output
from speakerkit.models import find, model_file
from speakerkit.models.folding import prepare_for_inference
from speakerkit.models.golden import prepare_features
from speakerkit.training.chunks import WaveChunks, start_worker

log = logging.getLogger(__name__)
SAVE_EVERY = 100  # classes: what a killed run has to embed again at the most
MOST_SECONDS = 8.0  # of a recording: more says nothing new of its speaker


class Teacher:
    """A loaded teacher and what it embeds."""

    def __init__(self, model: model_file.SpeakerModel, device: torch.device, precision: torch.dtype):
        self.info, self.sha256, self.device, self.precision = model.info, model.sha256, device, precision
        self.network = prepare_for_inference(model.network, device, precision)

    @torch.inference_mode()
    def embed(self, samples: np.ndarray, vtln_warp: float) -> np.ndarray:
        """(teacher_dim,) float32 of unit length, of (n,) float32 samples at the teacher's rate.

        Raises:
            DataError: an embedding that is zero or not finite.
        """
        samples = torch.from_numpy(np.ascontiguousarray(samples, np.float32)).to(self.device)
        features = prepare_features(samples, self.info.fbank, self.info.model, vtln_warp)
        embedding = self.network(features.to(self.precision))[0].float().cpu().numpy()
        length = float(np.linalg.norm(embedding))
        if not (np.isfinite(length) and length > 0):
            raise DataError("--teacher", f"gives an embedding of length {length}")
        return embedding / length


def teacher_targets(
    teacher: Teacher, chunks, num_recordings: int, folder: Path, seed: int, num_workers: int, show: bool
) -> torch.Tensor:
    """Every class's target; what is in ``folder/teacher_targets.safetensors`` isn't computed again.

    Args:
        teacher: what embeds.
        chunks: the training set: of recordings, since stored features fit one front end only.
        num_recordings: of each class; all where it has no more.
        folder: the experiment's.
        seed: of the choice of recordings.
        num_workers: processes that embed on a CPU, one thread each; 0: this one.
        show: a progress bar.

    Returns:
        (num_classes, teacher_dim) float32, of unit length.

    Raises:
        ConfigError: features instead of recordings, another sample rate.
        DataError: recordings of one class that cancel out.
    """
    if not isinstance(chunks, WaveChunks):
        raise ConfigError("--teacher needs recordings (wav.scp without feats.scp): its front end is another")
    if teacher.info.fbank.sample_rate != chunks.fbank.sample_rate:
        raise ConfigError(
            f"the teacher is for {teacher.info.fbank.sample_rate} Hz, [fbank] sample_rate is {chunks.fbank.sample_rate}"
        )
    path = folder / "teacher_targets.safetensors"
    made_with = {"teacher_sha256": teacher.sha256, "recordings": str(num_recordings), "seed": str(seed)}
    targets = torch.zeros(len(chunks.speakers), teacher.info.embedding_dim)
    first = _read_targets(path, made_with, targets)
    if first < len(targets):
        log.info("the teacher embeds %d speakers, %d are left", len(targets), len(targets) - first)
    loader = torch.utils.data.DataLoader(
        _ClassTargets(teacher, chunks, num_recordings, seed),
        batch_size=None,
        sampler=range(first, len(targets)),
        num_workers=0 if teacher.device.type == "cuda" else num_workers,
        worker_init_fn=start_worker,
    )
    bar = {"desc": "teacher", "unit": "speaker", "initial": first, "total": len(targets), "dynamic_ncols": True}
    for number, target in enumerate(tqdm(loader, **bar, disable=None if show else True), first):
        if target is None:
            raise DataError("--teacher", f"its embeddings of '{chunks.speakers[number]}' cancel out")
        targets[number] = target
        if (number + 1) % SAVE_EVERY == 0 or number + 1 == len(targets):
            _write_targets(path, made_with, targets, number + 1)
    return targets


class _ClassTargets(torch.utils.data.Dataset):
    """Item ``number`` is that class's target, or None where its recordings cancel out."""

    def __init__(self, teacher: Teacher, chunks: WaveChunks, num_recordings: int, seed: int):
        self.teacher, self.chunks, self.num_recordings, self.seed = teacher, chunks, num_recordings, seed
        self.order = np.argsort(chunks.labels, kind="stable")
        self.starts = np.searchsorted(chunks.labels[self.order], np.arange(len(chunks.speakers) + 1))

    def __getitem__(self, number: int) -> torch.Tensor | None:
        items = self.order[self.starts[number] : self.starts[number + 1]]
        generator = np.random.default_rng([self.seed, number])
        most = int(MOST_SECONDS * self.chunks.fbank.sample_rate)
        rows = []
        for item in generator.choice(items, min(self.num_recordings, len(items)), replace=False):
            samples, warp = self.chunks.whole(int(item))
            rows.append(self.teacher.embed(samples[:most], warp))
        mean = np.mean(rows, axis=0, dtype=np.float64)
        length = np.linalg.norm(mean)
        return torch.from_numpy((mean / length).astype(np.float32)) if length > 1e-3 else None


def _write_targets(path: Path, made_with: dict[str, str], targets: torch.Tensor, done: int) -> None:
    data = safetensors.torch.save({"targets": targets}, metadata=made_with | {"done": str(done)})
    with output.open_output(path) as stream:
        stream.write(data)


def _read_targets(path: Path, made_with: dict[str, str], targets: torch.Tensor) -> int:
    """Fill in what an earlier run computed; how many classes that were."""
    if not path.is_file():
        return 0
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts, known = file.metadata() or {}, file.get_tensor("targets")
        done = int(facts.pop("done"))
        if facts == made_with and known.shape == targets.shape:
            targets.copy_(known)
            return done
        log.info("%s was made otherwise and is made again", path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        log.warning("%s can't be read (%s) and is made again", path, error)
    return 0


def fit_targets(targets: torch.Tensor, embedding_dim: int) -> torch.Tensor:
    """The targets as vectors of the network's own length, cosines kept.

    A shorter target gets zeros. A longer one is cut to its leading principal axes (through the
    origin, so that cosines change least), which keeps all cosines where those axes hold everything.
    """
    num_classes, teacher_dim = targets.shape
    if teacher_dim > embedding_dim:
        _, _, axes = torch.linalg.svd(targets.double(), full_matrices=False)
        targets = (targets.double() @ axes[:embedding_dim].T).float()
    return F.normalize(F.pad(targets, (0, embedding_dim - targets.shape[1])), dim=1)


def teacher_loss(embedding: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """() 1 - mean cosine between (batch, dim) embeddings and their targets, and the cosine for the log."""
    with torch.autocast(embedding.device.type, enabled=False):
        cosine = F.cosine_similarity(embedding.float(), targets, dim=1).mean()
    return 1 - cosine, cosine.detach()


def prepare_targets(
    name: str, chunks, system: SystemConfig, folder: Path, device: torch.device, precision: torch.dtype, options
) -> tuple[torch.Tensor, dict[str, str]]:
    """The targets of a run, and what its model file says of the teacher.

    Args:
        name: what ``find.find_model`` takes.
        precision: the teacher is run in.
        options: the run's: seed, processes, whether to show a progress bar.

    Returns:
        (num_classes, embedding_dim) float32 of unit length, on the device; name, sha256,
        training_data and licence of the teacher.
    """
    teacher = Teacher(model_file.load_model(find.find_model(name)), device, precision)
    workers = options.nj if options.nj > 1 else 0
    count = system.loss.teacher_recordings
    targets = teacher_targets(teacher, chunks, count, folder, options.seed, workers, options.show)
    info = teacher.info
    facts = {"name": info.name, "sha256": teacher.sha256, "training_data": info.training_data, "licence": info.licence}
    return fit_targets(targets, system.model.embedding_dim).to(device), facts
