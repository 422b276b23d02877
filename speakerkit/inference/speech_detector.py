"""Which stretches of a recording are speech, by silero-vad, so that only they become an embedding.

The package (extra `vad`) brings its network as TorchScript; it needs torch alone. Stretches are found
with its published defaults: a probability of 0.5 in windows of 32 ms, speech of at least 250 ms,
pauses under 100 ms kept, 30 ms kept at either side. What is speech is joined end to end, as WeSpeaker's
command line does; the joints, one a pause, disturb two frames each.
"""

import dataclasses
import importlib.metadata
import threading
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from speakerkit.errors import ConfigError, RecordingError
from speakerkit.features.resample import resample
from speakerkit.io.audio import SHORT_S
from speakerkit.io.recordings import Recording
from speakerkit.models import device

PACKAGE = "silero-vad"
SAMPLE_RATE = 16000  # Hz at which the detector listens


@dataclass(frozen=True)
class SpeechDetector:
    """A loaded detector. Safe to call from several threads, which take turns: its network has a state."""

    name: str  # with the version: other versions find other stretches
    network: Any
    lock: Any = field(default_factory=threading.Lock, repr=False)

    def find_speech(self, samples: np.ndarray, sample_rate: int) -> list[tuple[int, int]]:
        """First sample and end of each stretch of speech, in order; none where nobody speaks.

        Args:
            samples: (num_samples,) float32 in [-1, 1].
            sample_rate: in Hz; the detector hears it at 16 kHz.
        """
        import silero_vad
        import torch

        heard = torch.from_numpy(np.ascontiguousarray(resample(samples, sample_rate, SAMPLE_RATE)))
        with self.lock, torch.inference_mode(), device.one_thread():  # its layers are too small for two
            found = silero_vad.get_speech_timestamps(heard, self.network, sampling_rate=SAMPLE_RATE)
        scale = sample_rate / SAMPLE_RATE
        places = [(round(stretch["start"] * scale), round(stretch["end"] * scale)) for stretch in found]
        return [(start, min(end, len(samples))) for start, end in places]

    def keep_speech(self, samples: np.ndarray, sample_rate: int, min_duration_s: float = 0.0) -> np.ndarray:
        """The speech of a recording, its stretches end to end.

        Args:
            samples: (num_samples,) float32 in [-1, 1].
            sample_rate: in Hz.
            min_duration_s: the least speech that is taken.

        Returns:
            (num_kept,) float32, num_kept >= 1.

        Raises:
            RecordingError: no-speech, or too-short with fewer seconds of it; its path is "samples".
        """
        stretches = self.find_speech(samples, sample_rate)
        duration_s = len(samples) / sample_rate
        if not stretches:
            raise RecordingError("samples", "no-speech", f"nobody speaks in {duration_s:.2f} s ({self.name})")
        kept = np.concatenate([samples[start:end] for start, end in stretches])
        if len(kept) < min_duration_s * sample_rate:
            raise RecordingError("samples", "too-short", f"{len(kept) / sample_rate:.2f} s of speech in "
                                                         f"{duration_s:.2f} s; wanted at least {min_duration_s:g} s")
        return kept


def keep_speech_of(detector: SpeechDetector, recording: Recording, min_duration_s: float) -> Recording:
    """The same recording without what is no speech.

    Raises:
        RecordingError: no-speech, or too-short with fewer seconds of it; under the recording's name.
    """
    try:
        speech = detector.keep_speech(recording.samples, recording.sample_rate, min_duration_s)
    except RecordingError as error:
        raise RecordingError(recording.name, error.reason, error.detail) from None
    notes = recording.notes + Counter(short=len(speech) < SHORT_S * recording.sample_rate)
    return dataclasses.replace(recording, samples=speech, notes=+notes)


def load_detector() -> SpeechDetector:
    """The detector that the package silero-vad brings.

    Raises:
        ConfigError: the package isn't installed, or can't be imported.
    """
    import torch

    name, num_threads = detector_name(), torch.get_num_threads()
    try:
        import silero_vad
    except ImportError as error:
        raise ConfigError(f"--vad: {name} can't be imported: {error}") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, of TorchScript; the file format is the package's
        network = silero_vad.load_silero_vad()
    torch.set_num_threads(num_threads)  # importing it sets one
    return SpeechDetector(name, network)


def detector_name() -> str:
    """The detector that would be loaded, with its version, for manifests that are compared before any work.

    Raises:
        ConfigError: the package isn't installed.
    """
    try:
        return f"{PACKAGE} {importlib.metadata.version(PACKAGE)}"
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(f"--vad needs {PACKAGE}, which isn't installed: pip install 'speakerkit[vad]'") from None
