"""The Python API: a loaded model, and what it makes of recordings in whatever form they come."""

import functools
import io
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from speakerkit.errors import BatchError, RecordingError
from speakerkit.inference.backends import BACKENDS, load_extractor
from speakerkit.inference.extractor import Extractor
from speakerkit.inference.speech_detector import SpeechDetector, keep_speech_of, load_detector
from speakerkit.io import audio, fetch, files
from speakerkit.io.fetch import fetch_url
from speakerkit.io.recordings import label_all, load_all, load_or_stream
from speakerkit.jobs import enrolment, pool, utterances, verification, voiceprints
from speakerkit.jobs.embedding import Listener, embed_thing, embed_utterance
from speakerkit.jobs.verification import Verification
from speakerkit.jobs.voiceprints import Identification, Voiceprints
from speakerkit.models import device as devices
from speakerkit.models.find import find_model
from speakerkit.models.model_info import ModelInfo

MOST_THREADS = 4096

__all__ = ["Identification", "Model", "Verification", "Voiceprints", "fetch_url", "forget_models", "load_model"]

_models: dict[tuple[str, str, str, str], "Model"] = {}
_loading = threading.Lock()


def load_model(name: str | os.PathLike | None = None, device: str = "auto", precision: str = "auto",
               cache: bool = True, *, backend: str = "auto") -> "Model":
    """Load a model, once in a process: the same file, device, precision and backend give the same object.

    Args:
        name: a model file (.safetensors or .onnx), an experiment folder, a bundled or published model's name; None:
            $SPEAKERKIT_MODEL, else the bundled default.
        device: auto, cpu, cuda or cuda:N.
        precision: auto (bfloat16 where it is fast and the model bears it), float32, bfloat16, or int8 (an .onnx
            that is quantised).
        cache: False loads another copy, which nobody else gets; `forget_models` drops the kept ones.
        backend: auto, torch, onnx or openvino. Without torch's, torch is never imported.

    Raises:
        DataError: no such model, or one that is damaged.
        ConfigError: a device that isn't there, a library that isn't installed or can't do it.
        ValueError: no such device, precision or backend.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device := str(device)):
        raise ValueError(f"device is {device!r}; want auto, cpu, cuda or cuda:N")
    if precision not in ("auto", "float32", "bfloat16", "int8"):
        raise ValueError(f"precision is {precision!r}; want auto, float32, bfloat16 or int8")
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend is {backend!r}; want auto, {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}")
    path = find_model(name)
    if not cache:
        return Model(load_extractor(path, device, precision, backend))
    with _loading:
        sha256 = files.sha256_file(path)
        if (sha256, device, precision, backend) not in _models:
            model = Model(load_extractor(path, device, precision, backend))
            sha256 = model.sha256  # of what was loaded, should the file have been replaced meanwhile
            _models[sha256, device, precision, backend] = model
        return _models[sha256, device, precision, backend]


def forget_models() -> None:
    """Drop the models that `load_model` keeps; those in use live on until their users drop them."""
    with _loading:
        _models.clear()


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model. Safe to use from several threads; its embeddings don't depend on what else runs.

    A recording is a path, the bytes of a file, a binary file object (it needn't seek), or a numpy array or
    torch tensor with `sample_rate=`: int16 or int32 at full scale or floats in [-1, 1], of shape
    (num_samples,) or two-dimensional with the longer side as time. What reads recordings takes these options:
    `channel` (from 0, or "mix"; several channels without a choice are an error), `min_duration_s` (0.3),
    `max_duration_s`, `pcm_rate` (Hz of headerless .pcm files), `accept_truncated`. `vad=True` embeds only what
    silero-vad takes for speech (pip install 'speakerkit[vad]'); where nobody speaks the reason is no-speech.
    A file of a minute or more is embedded in blocks, in constant memory, by a model that can be run in parts.
    A recording that can't be used is never a number: RecordingError, its `reason` one of errors.REASON_CODES.
    """

    extractor: Extractor

    @property
    def info(self) -> ModelInfo:
        """What the model file says: front end, training data, domain, licence, threshold, results."""
        return self.extractor.info

    @property
    def sha256(self) -> str:
        """SHA-256 of the model file."""
        return self.extractor.sha256

    @property
    def embedding_dim(self) -> int:
        """Values an embedding."""
        return self.extractor.embedding_dim

    @property
    def precision(self) -> str:
        """float32, bfloat16 or, of a quantised model, int8."""
        return self.extractor.precision_name

    @property
    def backend(self) -> str:
        """The library that runs it: torch, onnx or openvino."""
        return self.extractor.backend

    def __repr__(self) -> str:
        where = f"{self.extractor.device}, {self.precision}, {self.backend}"
        return f"<Model {self.info.name} {self.sha256[:8]}, {where}>"

    def embed(self, recording, sample_rate: float | Sequence[float | None] | None = None, *, nj: int | None = None,
              on_bad: str = "raise", vad: bool = False, **options) -> np.ndarray | list[np.ndarray | RecordingError]:
        """The embedding of a recording; of a list of recordings, those of all.

        Args:
            recording: see Model; or a list or tuple of them.
            sample_rate: Hz, of arrays and tensors; for a list one for all of them, or one an item.
            nj: of a list: how many are worked on at a time, one thread each (default: as many as torch has
                threads, of a model that torch runs, else usable cores); the bytes are the same for any number.
            on_bad: of a list: "raise", or "return" to get a list that holds an embedding or a RecordingError
                an item.
            vad, **options: see Model.

        Returns:
            (embedding_dim,) float32, not length-normalised: what extract-embeddings writes for the same
            file, byte for byte; for a list (num_recordings, embedding_dim), in its order.

        Raises:
            RecordingError: the recording can't be used.
            BatchError: recordings of a list that can't; its `results` hold the embeddings of the others.
            ValueError: no recording at all, no rate for samples, an impossible shape or option.
        """
        audio_options = make_audio_options(options)
        hear = make_listener(vad, audio_options)
        if not isinstance(recording, (list, tuple)):
            return self._embed_one(recording, sample_rate, audio_options, hear)
        items = label_all(recording, sample_rate)
        return self._embed_all(lambda item: embed_thing(self.extractor, item[0], item[1], audio_options, item[2], hear),
                               items, nj, on_bad)

    def embed_file_list(self, wav_scp: str | os.PathLike, segments: str | os.PathLike | None = None, *,
                        nj: int | None = None, on_bad: str = "raise", vad: bool = False,
                        **options) -> dict[str, np.ndarray | RecordingError]:
        """The embedding of every recording of a list, or of its segments, as extract-embeddings makes them.

        Args:
            wav_scp: '<utt-id> <path>' lines; shell pipes are refused.
            segments: '<utt-id> <rec-id> <start> <end>' lines, seconds.
            nj, on_bad, vad, **options: as for `embed`.

        Returns:
            utt_id -> (embedding_dim,) float32, in the list's order.

        Raises:
            DataError, DataErrors: a list with faults, as file:line.
            BatchError: recordings that can't be used, after all others are done.
        """
        audio_options = make_audio_options(options)
        hear = make_listener(vad, audio_options)
        listed = utterances.read_utterances(wav_scp, segments)

        results = self._embed_all(lambda utterance: embed_utterance(self.extractor, utterance, audio_options, hear),
                                  listed, nj, on_bad)
        return {utterance.utt_id: result for utterance, result in zip(listed, results, strict=True)}

    def embed_url(self, url: str, *, allow_private: bool = False, max_bytes: int = fetch.MOST_BYTES,
                  timeout_s: float = fetch.TIMEOUT_S, vad: bool = False, **options) -> np.ndarray:
        """The embedding of a recording behind an http or https URL; see `fetch_url` for its limits.

        Raises:
            RecordingError: url-refused, url-failed, missing, or what a file gives; it names the URL without its query.
        """
        audio_options = make_audio_options(options)
        hear = make_listener(vad, audio_options)
        stream = io.BytesIO(fetch_url(url, allow_private=allow_private, max_bytes=max_bytes, timeout_s=timeout_s))
        stream.name = fetch.shown(url)
        return self._embed_one(stream, None, audio_options, hear)

    def verify(self, enrol, test, sample_rate: float | Sequence[float | None] | None = None, *, vad: bool = False,
               **options) -> Verification:
        """Are two recordings of the same speaker?

        Args:
            enrol: a recording (see Model), or a list of recordings of one speaker, whose embeddings are averaged.
            test: the recording in question.
            sample_rate: Hz, of arrays and tensors; one for all, or one for each of `enrol` and then `test`.
            vad, **options: see Model.

        Returns:
            cosine, similarity (0 to 100), threshold, decision ("same" or "different"), llr (natural
            log-likelihood ratio), domain, warnings. Without a threshold in the model there is no decision,
            without a calibration no llr.

        Raises:
            RecordingError, DataErrors: recordings that can't be used.
            ValueError: as for `embed`.
        """
        audio_options = make_audio_options(options)
        things = [*(enrol if isinstance(enrol, (list, tuple)) else [enrol]), test]
        if len(things) == 1:
            raise ValueError("no recording of the speaker to compare with")
        hear = make_listener(vad, audio_options)
        loaded = load_all(label_all(things, sample_rate), audio_options)
        *enrolled, tested = loaded if hear is None else map(hear, loaded)
        return verification.compare(self.extractor, tested, enrolled)

    def enrol(self, path: str | os.PathLike, speakers: Mapping[str, object], sample_rate: float | None = None, *,
              nj: int | None = None, vad: bool = False, **options) -> Voiceprints:
        """Add recordings of people to a voiceprint file, which is made where there is none.

        Args:
            path: the file. It keeps where each recording lies, so that another model can embed it again; for
                recordings given as bytes or samples that can't be done.
            speakers: name -> a recording (see Model) or a list of them; a name is one word. Known speakers get
                further recordings.
            sample_rate: Hz, of all arrays and tensors.
            nj: recordings worked on at a time.
            vad, **options: see Model; kept in the file for embedding again.

        Returns:
            The voiceprints, as `load_voiceprints` gives them. The log (logger "speakerkit") says what looks
            like a mistake: a recording unlike its speaker's others, a speaker like another one.

        Raises:
            RecordingError, DataErrors: recordings that can't be used; nothing is enrolled then.
            DataError: no voiceprint file, or one whose embeddings can't be made again for this model.
            ValueError: a name that is no word, and as for `embed`.
        """
        audio_options = make_audio_options(options)
        flat = [(name, thing) for name, given in speakers.items()
                for thing in (given if isinstance(given, (list, tuple)) else [given])]
        items = label_all([thing for _, thing in flat], sample_rate)
        pairs = [(name, item) for (name, _), item in zip(flat, items, strict=True)]
        samples = enrolment.make_samples(pairs, audio_options, self.extractor, self._threads(nj),
                                         _detector() if vad else None)
        return enrolment.enrol(path, samples, self.extractor)

    def load_voiceprints(self, path: str | os.PathLike, refresh: bool = True) -> Voiceprints:
        """Load a voiceprint file for searching: 4 * embedding_dim bytes a recording and 6 a speaker.

        Args:
            path: the file.
            refresh: embeddings of another model are made again from the recordings, and kept in the file; False
                refuses the file instead.

        Raises:
            DataError, DataErrors: no voiceprint file, damaged, or recordings that can't be embedded again.
        """
        voices = voiceprints.load_voiceprints(path, self.extractor, refresh)
        voices.nearest.prepare()
        return voices

    def identify(self, voices: Voiceprints | str | os.PathLike, recording, sample_rate: float | None = None, *,
                 top: int = 5, vad: bool = False, **options) -> Identification:
        """Whose voice is it? The nearest of the means of all speakers, found exactly: 100,000 in a few milliseconds.

        Args:
            voices: what `load_voiceprints` gives, or the file, which is then loaded for this call alone.
            recording: see Model.
            sample_rate: Hz, of an array or tensor.
            top: how many of the nearest speakers at most.
            vad, **options: see Model.

        Returns:
            speaker (None: nobody reaches the model's threshold), matches (nearest first, each with cosine,
            similarity, threshold, decision, llr: what `verify` gives for that speaker's recordings), warnings.
            The threshold is one for a single comparison: among N strangers a wrong voice passes it about N
            times as often.

        Raises:
            RecordingError: the recording can't be used.
            DataError: nobody is enrolled, or the voices are another model's.
        """
        if not isinstance(voices, Voiceprints):
            voices = voiceprints.load_voiceprints(voices, self.extractor)
        audio_options = make_audio_options(options)
        hear = make_listener(vad, audio_options)
        loaded = load_or_stream(recording, sample_rate, audio_options)
        return voiceprints.identify(voices, loaded if hear is None else hear(loaded), self.extractor, top)

    def _threads(self, nj: int | None) -> int:
        """How many recordings are worked on at a time."""
        if nj is not None and not (isinstance(nj, int) and 1 <= nj <= MOST_THREADS):
            raise ValueError(f"nj is {nj!r}; want 1 or more, {MOST_THREADS} at most")
        if nj is None and self.backend == "torch":
            import torch

            return torch.get_num_threads()
        return nj or devices.usable_cores()

    def _embed_one(self, recording, sample_rate: float | None, options: audio.AudioOptions,
                   hear: Listener | None) -> np.ndarray:
        embedding, notes = embed_thing(self.extractor, recording, sample_rate, options, hear=hear)
        audio.say_notes(notes)
        return embedding

    def _embed_all(self, embed: Callable[[object], tuple[np.ndarray, Counter]], items: list, nj: int | None,
                   on_bad: str) -> np.ndarray | list[np.ndarray | RecordingError]:
        """What each item's recording gives: embeddings, or why there is none."""
        if on_bad not in ("raise", "return"):
            raise ValueError(f"on_bad is {on_bad!r}; want 'raise' or 'return'")

        def attempt(item: object) -> tuple[np.ndarray | RecordingError, Counter]:
            try:
                return embed(item)
            except RecordingError as error:
                return error, Counter()

        pairs = pool.run_threads(attempt, items, self._threads(nj))
        audio.say_notes(sum((notes for _, notes in pairs), Counter()))
        results = [result for result, _ in pairs]
        if on_bad == "return":
            return results
        if any(isinstance(result, RecordingError) for result in results):
            raise BatchError(results)
        return np.stack(results) if results else np.zeros((0, self.embedding_dim), np.float32)


def make_audio_options(options: dict) -> audio.AudioOptions:
    """AudioOptions of keywords; nothing here runs a shell pipe."""
    if "allow_pipes" in options:
        raise ValueError("shell pipes aren't run here; wanted a path, bytes, a file object or samples")
    return audio.AudioOptions(**options)


def make_listener(vad: bool, options: audio.AudioOptions) -> Listener | None:
    """What is made of a loaded recording before it is embedded: nothing, or what of it is speech."""
    if not vad:
        return None
    detector = _detector()
    return lambda recording: keep_speech_of(detector, recording, options.min_duration_s)


@functools.cache
def _detector() -> SpeechDetector:
    return load_detector()
