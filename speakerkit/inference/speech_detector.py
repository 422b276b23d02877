"""Which stretches of a recording are speech, by silero-vad, so that only they become an embedding.

The package (extra `vad`) brings its network as TorchScript; it needs torch alone. Stretches are found
with its published defaults: a probability of 0.5 in windows of 32 ms, speech of at least 250 ms,
pauses under 100 ms kept, 30 ms kept at either side. What is speech is joined end to end, as WeSpeaker's
command line does; the joints, one a pause, disturb two frames each.
"""

import array
import dataclasses
import importlib.metadata
import itertools
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from speakerkit.errors import ConfigError, RecordingError
from speakerkit.features.resample import resample_blocks
from speakerkit.io.audio import SHORT_S
from speakerkit.io.audio_stream import AudioStream, StreamFault
from speakerkit.io.recordings import AnyRecording, LongRecording
from speakerkit.models import device

PACKAGE = "silero-vad"
SAMPLE_RATE = 16000  # Hz at which the detector listens
WINDOW = 512  # samples that it hears at a time


@dataclass(frozen=True)
class SpeechDetector:
    """A loaded detector. Safe to call from several threads, which take turns: its network has a state."""

    name: str  # with the version: other versions find other stretches
    network: Any
    lock: Any = field(default_factory=threading.Lock, repr=False)

    def find_speech(self, blocks: Iterable[np.ndarray], sample_rate: int) -> list[tuple[int, int]]:
        """First sample and end of each stretch of speech, in order; none where nobody speaks.

        Args:
            blocks: (num_samples,) float32 in [-1, 1], one after another, from which the answer doesn't depend on how
                they are cut. Other threads wait meanwhile.
            sample_rate: in Hz; the detector hears it at 16 kHz.

        A probability a window of 32 ms is all that is kept.
        """
        import silero_vad
        import torch

        counted = _Counted(blocks)
        with self.lock, torch.inference_mode(), device.one_thread():  # its layers are too small for two
            heard, probabilities = self._listen(resample_blocks(counted, sample_rate, SAMPLE_RATE))
            found = silero_vad.get_speech_timestamps(torch.zeros(1).expand(heard), _Replay(probabilities),
                                                     sampling_rate=SAMPLE_RATE)
        scale = sample_rate / SAMPLE_RATE
        places = [(round(stretch["start"] * scale), round(stretch["end"] * scale)) for stretch in found]
        return [(start, min(end, counted.num_samples)) for start, end in places]

    def _listen(self, blocks: Iterable[np.ndarray]) -> tuple[int, np.ndarray]:
        """How many samples there are, and the probability of speech in each window; the last is filled with zeros."""
        import torch

        self.network.reset_states()
        num_samples, probabilities, held = 0, array.array("d"), np.zeros(0, np.float32)
        for block in itertools.chain(blocks, [None]):
            if block is None:
                held = np.pad(held, (0, -len(held) % WINDOW))
            else:
                num_samples, held = num_samples + len(block), np.concatenate([held, block])
            windows = torch.from_numpy(held[:len(held) // WINDOW * WINDOW].reshape(-1, WINDOW))
            probabilities.extend(self.network(window, SAMPLE_RATE).item() for window in windows)
            held = held[windows.numel():]
        return num_samples, np.array(probabilities)

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
        stretches = self.find_speech([samples], sample_rate)
        self._check_enough(stretches, len(samples), sample_rate, min_duration_s)
        return np.concatenate([samples[start:end] for start, end in stretches])

    def keep_speech_of_stream(self, stream: AudioStream, min_duration_s: float = 0.0) -> AudioStream:
        """The same of a long recording, in constant memory: a stream that gives what is speech alone.

        Raises:
            RecordingError: as ``keep_speech`` does. StreamFault: something is wrong with the samples.
        """
        stretches = self.find_speech(stream.blocks(), stream.sample_rate)
        self._check_enough(stretches, stream.num_samples, stream.sample_rate, min_duration_s)
        return stream.keep(stretches)

    def _check_enough(self, stretches: list[tuple[int, int]], num_samples: int, sample_rate: int,
                      min_duration_s: float) -> None:
        duration_s, speech_s = num_samples / sample_rate, sum(end - start for start, end in stretches) / sample_rate
        if not stretches:
            raise RecordingError("samples", "no-speech", f"nobody speaks in {duration_s:.2f} s ({self.name})")
        if speech_s < min_duration_s:
            raise RecordingError("samples", "too-short", f"{speech_s:.2f} s of speech in {duration_s:.2f} s; "
                                                         f"wanted at least {min_duration_s:g} s")


class _Counted:
    """Blocks of samples, and how many samples have been taken of them."""

    def __init__(self, blocks: Iterable[np.ndarray]):
        self.blocks, self.num_samples = blocks, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks:
            self.num_samples += len(block)
            yield block


class _Replay:
    """Stands for the network where the package makes stretches of its answers, window by window."""

    def __init__(self, probabilities: np.ndarray):
        self.probabilities = iter(probabilities)

    def reset_states(self) -> None:
        """Nothing is remembered."""

    def __call__(self, window: object, sample_rate: int) -> np.float64:
        return next(self.probabilities)


def keep_speech_of(detector: SpeechDetector, recording: AnyRecording, min_duration_s: float) -> AnyRecording:
    """The same recording without what is no speech.

    Raises:
        RecordingError: no-speech, or too-short with fewer seconds of it; unreadable, where a long one has changed
            since it was checked; under the recording's name.
    """
    try:
        if isinstance(recording, LongRecording):
            kept = recording.keep(detector.keep_speech_of_stream(recording.stream, min_duration_s))
        else:
            speech = detector.keep_speech(recording.samples, recording.sample_rate, min_duration_s)
            kept = dataclasses.replace(recording, samples=speech)
    except RecordingError as error:
        raise RecordingError(recording.name, error.reason, error.detail) from None
    except StreamFault:
        raise RecordingError(recording.name, "unreadable", "has changed while it was read") from None
    return dataclasses.replace(kept, notes=+(kept.notes + Counter(short=kept.duration_s < SHORT_S)))


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
