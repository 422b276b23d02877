"""Make recordings of artificial talkers: a source-filter synthesiser, deterministic, numpy and scipy only.

Each talker has a vocal tract (length, its own formants and bandwidths), a pitch and its habits, a
voice quality and a way of speaking; each recording has a stream of random syllables, a session with
a room, noise, a band and a level. It is nobody's voice: recordings for testing a whole system where
no speech may be downloaded. What a system scores on them says that it works, not how well.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.ndimage
import scipy.signal

from speakerkit.cli import entry

SAMPLE_RATE = 16000  # Hz
HOP = 128            # samples from one filter frame to the next: 8 ms
WINDOW = 2 * HOP     # Hann, so that frames half a window apart add up to one
FFT = 512            # leaves WINDOW samples for the filter to ring
RECORDINGS_A_SESSION = 2

# First three formants in Hz of an adult man's vowels (after Peterson and Barney, 1952).
VOWELS = np.array([[730, 1090, 2440], [530, 1840, 2480], [270, 2290, 3010], [570, 840, 2410],
                   [300, 870, 2240], [490, 1350, 1690], [660, 1720, 2410], [500, 1500, 2500]], float)
HIGHER_FORMANTS = np.array([3500.0, 4500.0, 5500.0, 6500.0])                     # Hz
BANDWIDTHS = np.array([60.0, 85.0, 130.0, 190.0, 260.0, 330.0, 400.0])           # Hz
LOCUS = {"labial": (350, 900, 2300), "alveolar": (350, 1750, 2600), "velar": (350, 2100, 2500)}  # F1..F3 in Hz

# Columns of a phone: seconds, F1..F3 in Hz, then the levels of voice, breath and friction, the
# centre and width of the friction in Hz, and how open the nose is.
SECONDS, F1, F3, VOICE, BREATH, FRICTION, CENTRE, WIDTH, NOSE = 0, 1, 3, 4, 5, 6, 7, 8, 9


@dataclass(frozen=True)
class Talker:
    """What stays the same in everything a talker says."""

    pitch: float                # Hz, median
    pitch_range: float          # semitones, standard deviation of accents
    declination: float          # semitones a second
    tremor: tuple[float, float]  # Hz, semitones
    tract: float                # formants relative to an adult man's: 1 / length
    formant_offsets: np.ndarray  # (7,) relative to the scaled formants
    vowel_space: float          # how far vowels lie from the neutral one
    bandwidth: float            # relative
    nasal: tuple[float, float]  # pole and zero of the nose, Hz
    nasality: float             # how open the nose is in vowels, 0..1
    open_quotient: float        # share of a period with the glottis open
    tilt: float                 # Hz, where the voice's spectrum starts to fall faster
    breath: float               # level of breath in the voice
    jitter: float               # relative, period to period
    shimmer: float              # relative
    rate: float                 # syllables a second
    coarticulation: float       # seconds, how early the tongue sets out for the next phone
    aspiration: float           # seconds after a stop
    sibilant: float             # friction frequencies, relative
    vowel_weights: np.ndarray   # (8,) how often each vowel comes
    consonant_weights: np.ndarray  # (6,)


@dataclass(frozen=True)
class Session:
    """What stays the same within a recording session: the talker's day, the room, the microphone."""

    pitch: float                # semitones away from the talker's own
    tract: float                # relative: head position, lips
    effort: float               # relative tilt
    rate: float                 # relative
    band: tuple[float, float]   # Hz
    room: np.ndarray            # impulse response
    snr_db: float
    noise_slope: float          # noise power falls as 1 / f ** noise_slope
    level_db: float


def generator(*key: int) -> np.random.Generator:
    """A generator of its own for each talker, session and recording, so that order doesn't matter."""
    return np.random.default_rng(key)


def draw_talker(rng: np.random.Generator) -> Talker:
    """A talker at random: low, high or child's voice, then everything around it."""
    pitch, tract = [(112.0, 1.0), (200.0, 1.16), (255.0, 1.30)][rng.choice(3, p=[0.45, 0.4, 0.15])]
    return Talker(
        pitch=pitch * 2 ** rng.normal(0, 0.2), pitch_range=rng.uniform(0.8, 3.5), declination=rng.uniform(0, 2.5),
        tremor=(rng.uniform(3.5, 7.0), rng.uniform(0, 0.4)),
        tract=tract * (1 + rng.normal(0, 0.035)), formant_offsets=1 + rng.normal(0, 0.035, 7),
        vowel_space=rng.uniform(0.8, 1.15), bandwidth=rng.uniform(0.75, 1.5),
        nasal=(rng.uniform(240, 420), rng.uniform(500, 1100)), nasality=rng.uniform(0, 0.5),
        open_quotient=rng.uniform(0.45, 0.8), tilt=rng.uniform(1200, 5000), breath=10 ** rng.uniform(-2.0, -0.7),
        jitter=10 ** rng.uniform(-2.4, -1.6), shimmer=rng.uniform(0.02, 0.15),
        rate=rng.uniform(3.2, 6.0), coarticulation=rng.uniform(0.012, 0.03), aspiration=rng.uniform(0.01, 0.06),
        sibilant=rng.uniform(0.85, 1.15), vowel_weights=rng.dirichlet(np.full(len(VOWELS), 4.0)),
        consonant_weights=rng.dirichlet(np.full(6, 4.0)))


def draw_session(rng: np.random.Generator) -> Session:
    """A recording session at random."""
    length = int(rng.uniform(0.08, 0.4) * SAMPLE_RATE)
    decay = np.exp(-6.9 * np.arange(length) / length)  # 60 dB down at its end
    room = rng.standard_normal(length) * decay
    room *= 10 ** (-rng.uniform(4, 14) / 20) / np.sqrt(np.sum(room ** 2))
    room[0] = 1.0
    return Session(
        pitch=rng.normal(0, 0.7), tract=1 + rng.normal(0, 0.01), effort=2 ** rng.normal(0, 0.25),
        rate=2 ** rng.normal(0, 0.12), band=(rng.uniform(50, 220), rng.uniform(4200, 7600)), room=room,
        snr_db=rng.uniform(11, 29), noise_slope=rng.uniform(0, 1.6), level_db=rng.uniform(-32, -18))


def draw_consonant(talker: Talker, rng: np.random.Generator) -> list[list[float]]:
    """The phones of one consonant, as rows of the columns above; empty for none."""
    kind = rng.choice(6, p=talker.consonant_weights)
    place = rng.choice(3)
    locus = list(LOCUS[("labial", "alveolar", "velar")[place]])
    centre, width = [(1200, 1500), (5200, 1500), (2300, 900)][place]
    centre *= talker.sibilant
    length = 0.4 / talker.rate
    if kind == 0:  # stop: closure, burst, breath
        return [[0.4 * length + 0.02, *locus, 0, 0, 0, centre, width, 0],
                [0.010, *locus, 0, 0, 0.9, centre, width, 0],
                [talker.aspiration + 0.008, *locus, 0.1, 0.5, 0, centre, width, 0]]
    if kind == 1:  # voiced stop: a murmur instead of silence
        return [[0.5 * length, *locus, 0.15, 0, 0, centre, width, 0.2],
                [0.010, *locus, 0.5, 0, 0.5, centre, width, 0]]
    if kind == 2:  # fricative
        return [[length, *locus, 0.05, 0.05, (0.12, 0.5, 0.3)[place], (6500, 5800, 3400)[place] * talker.sibilant,
                 (4000, 1400, 1100)[place], 0]]
    if kind == 3:  # nasal
        return [[0.7 * length, 280, (950, 1500, 2000)[place], 2300, 0.5, 0, 0, centre, width, 1]]
    if kind == 4:  # liquid or glide
        w_r_j = [(360, 1100, 2500), (330, 1300, 1700), (300, 2100, 2900)]
        return [[0.6 * length, *w_r_j[place], 0.6, 0, 0, centre, width, 0]]
    return []


def draw_phones(talker: Talker, rate: float, duration_s: float, rng: np.random.Generator) -> np.ndarray:
    """A stream of random syllables and pauses: (num_phones, 10), columns as named above."""
    rows: list[list[float]] = []
    neutral = VOWELS[-1]
    while sum(row[SECONDS] for row in rows) < duration_s:
        if rng.random() < 0.1:
            rows.append([rng.uniform(0.08, 0.3), *neutral, 0, 0, 0, 1000, 1000, 0])
        rows += draw_consonant(talker, rng)
        vowel = neutral + talker.vowel_space * (VOWELS[rng.choice(len(VOWELS), p=talker.vowel_weights)] - neutral)
        stress = rng.uniform(0.6, 1.0)
        length = 0.6 / talker.rate * np.exp(rng.normal(0, 0.25))
        rows.append([length, *vowel, stress, 0, 0, 1000, 1000, talker.nasality])
        if rng.random() < 0.3:  # a diphthong's second half
            rows.append([0.5 * length, *(0.5 * vowel + 0.5 * VOWELS[rng.choice(len(VOWELS))]), 0.8 * stress, 0, 0,
                         1000, 1000, talker.nasality])
        if rng.random() < 0.2:
            rows.append([0.07, 280, 1500, 2400, 0.4, 0, 0, 1000, 1000, 1])
    phones = np.array(rows)
    phones[:, SECONDS] /= rate
    return phones


def draw_pitch(talker: Talker, session: Session, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """The pitch in Hz frame by frame: phrases that fall, accents, tremor. (num_frames,)"""
    seconds = np.arange(num_frames) * HOP / SAMPLE_RATE
    accents = scipy.ndimage.gaussian_filter1d(rng.standard_normal(num_frames), 12, mode="reflect")
    accents *= talker.pitch_range / max(accents.std(), 1e-3)
    phrase = rng.uniform(1.2, 2.5)  # seconds
    falling = talker.declination * (phrase / 2 - (seconds + rng.uniform(0, phrase)) % phrase)
    tremor = talker.tremor[1] * np.sin(2 * np.pi * (talker.tremor[0] * seconds + rng.random()))
    return talker.pitch * 2 ** ((session.pitch + accents + scipy.ndimage.gaussian_filter1d(falling, 3) + tremor) / 12)


def glottal_source(talker: Talker, session: Session, pitch: np.ndarray, voice: np.ndarray,
                   rng: np.random.Generator) -> np.ndarray:
    """The voice before the vocal tract, with its breath: (num_frames * HOP,).

    Klatt's glottal pulse (KLGLOTT88, J. Acoust. Soc. Am. 87, 1990), its derivative by phase: it
    holds the lips' radiation. A one-pole low-pass tilts its spectrum.
    """
    at_sample = np.arange(len(pitch) * HOP) / HOP
    frames = np.arange(len(pitch))
    wobble = np.interp(at_sample, np.arange(2 * len(pitch)) / 2, rng.standard_normal(2 * len(pitch)))
    phase = np.cumsum(np.interp(at_sample, frames, pitch) * (1 + talker.jitter * wobble)) / SAMPLE_RATE
    cycle = phase.astype(int)
    opening = (phase - cycle) / talker.open_quotient
    pulse = np.where(opening < 1, 2 * opening - 3 * opening ** 2, 0.0)
    pulse *= (1 + talker.shimmer * rng.standard_normal(cycle[-1] + 1))[cycle]
    noise = rng.standard_normal(len(phase)) * np.where(opening < 1, 1.0, 0.4)  # breath flows while the glottis is open
    pole = np.exp(-2 * np.pi * talker.tilt * session.effort / SAMPLE_RATE)
    tilted = scipy.signal.lfilter([1 - pole], [1, -pole], pulse)
    return (tilted + talker.breath * 0.5 * noise) * np.interp(at_sample, frames, voice)


def resonance(frequency: np.ndarray, bandwidth: np.ndarray | float) -> np.ndarray:
    """A two-pole resonator of gain 1 at 0 Hz, one a frame: (num_frames,) Hz -> (num_frames, FFT // 2 + 1)."""
    delay = np.exp(-2j * np.pi * np.arange(FFT // 2 + 1) / FFT).astype(np.complex64)
    radius = np.exp(-np.pi * np.asarray(bandwidth) / SAMPLE_RATE)
    b = (2 * radius * np.cos(2 * np.pi * frequency / SAMPLE_RATE)).astype(np.float32)[:, None]
    c = np.broadcast_to(radius ** 2, frequency.shape).astype(np.float32)[:, None]
    return (1 - b + c) / (1 - b * delay + c * delay ** 2)


def tract_response(talker: Talker, session: Session, tracks: np.ndarray) -> np.ndarray:
    """The vocal tract's transfer function frame by frame, seven formants and the nose: (num_frames, bins)."""
    scale = talker.tract * session.tract * talker.formant_offsets
    response = np.ones((len(tracks), FFT // 2 + 1), np.complex64)
    for i in range(7):
        formant = tracks[:, F1 + i] if i < 3 else np.full(len(tracks), HIGHER_FORMANTS[i - 3])
        width = talker.bandwidth * BANDWIDTHS[i] * (1 + 0.5 * tracks[:, NOSE])  # the nose damps
        response *= resonance(np.clip(formant * scale[i], 150, 7900), width)
    pole, zero = talker.nasal[0] * talker.tract, talker.nasal[1] * talker.tract
    both = pole + (zero - pole) * tracks[:, NOSE]  # pole and zero meet, and cancel, when the nose is closed
    return response * resonance(np.full(len(tracks), pole), 100.0) / resonance(both, 120.0)


def friction_shape(tracks: np.ndarray) -> np.ndarray:
    """Magnitude of the friction's spectrum frame by frame: (num_frames, bins)."""
    frequency = np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT
    away = (frequency - tracks[:, CENTRE, None]) / tracks[:, WIDTH, None]
    return (tracks[:, FRICTION, None] / (1 + away ** 2)).astype(np.float32)


def speak(talker: Talker, session: Session, duration_s: float, rng: np.random.Generator) -> np.ndarray:
    """Random syllables in a talker's voice, before room and microphone: (num_samples,), RMS 1."""
    phones = draw_phones(talker, session.rate, duration_s, rng)
    lengths = np.maximum(1, np.round(phones[:, SECONDS] * SAMPLE_RATE / HOP)).astype(int)
    tracks = np.repeat(phones, lengths, axis=0)[: int(duration_s * SAMPLE_RATE / HOP)]
    glide = talker.coarticulation * SAMPLE_RATE / HOP
    tracks[:, F1:F3 + 1] = scipy.ndimage.gaussian_filter1d(tracks[:, F1:F3 + 1], glide, axis=0)
    tracks[:, [VOICE, BREATH, NOSE]] = scipy.ndimage.gaussian_filter1d(tracks[:, [VOICE, BREATH, NOSE]], 0.9, axis=0)

    pitch = draw_pitch(talker, session, len(tracks), rng)
    voice = glottal_source(talker, session, pitch, tracks[:, VOICE], rng)
    breath = np.repeat(tracks[:, BREATH], HOP) * 0.15 * rng.standard_normal(len(voice))
    friction = 0.5 * rng.standard_normal(len(voice))
    through_tract, through_teeth = (np.fft.rfft(frames_of(x), FFT) for x in (voice + breath, friction))
    spectrum = through_tract * tract_response(talker, session, tracks) + through_teeth * friction_shape(tracks)
    samples = overlap_add(np.fft.irfft(spectrum, FFT))[: len(voice)]
    return samples / np.sqrt(np.mean(samples ** 2))


def frames_of(samples: np.ndarray) -> np.ndarray:
    """Windowed frames, one every HOP samples: (num_frames * HOP,) -> (num_frames, WINDOW)."""
    padded = np.concatenate([samples, np.zeros(HOP)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * window


def overlap_add(frames: np.ndarray) -> np.ndarray:
    """The inverse of ``frames_of`` for frames that have rung out to FFT samples."""
    parts = FFT // HOP
    out = np.zeros((len(frames) + parts, HOP))
    for part in range(parts):
        out[part:part + len(frames)] += frames[:, part * HOP:(part + 1) * HOP]
    return out.ravel()


def record(samples: np.ndarray, session: Session, rng: np.random.Generator) -> np.ndarray:
    """What the session's microphone makes of it: room, noise, band, level. float32 in [-1, 1]"""
    heard = scipy.signal.fftconvolve(samples, session.room)[: len(samples)]
    spectrum = np.fft.rfft(rng.standard_normal(len(samples)))
    frequency = np.maximum(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE), 60.0)
    noise = np.fft.irfft(spectrum * frequency ** (-session.noise_slope / 2), len(samples))
    snr_db = session.snr_db + rng.normal(0, 2)
    heard = heard / np.sqrt(np.mean(heard ** 2)) + noise / np.sqrt(np.mean(noise ** 2)) * 10 ** (-snr_db / 20)
    band = scipy.signal.butter(3, session.band, "bandpass", fs=SAMPLE_RATE, output="sos")
    heard = scipy.signal.sosfilt(band, heard) * 10 ** ((session.level_db + rng.normal(0, 1)) / 20)
    return np.clip(heard, -0.99, 0.99).astype(np.float32)


def synthesise(seed: int, talker_number: int, recording: int) -> np.ndarray:
    """One recording of one talker: (num_samples,) float32 in [-1, 1] at 16 kHz, 2.5 to 4.5 s.

    The same three numbers give the same recording, whatever else is made.
    """
    rng = generator(seed, talker_number, recording)
    talker = draw_talker(generator(seed, talker_number))
    session = draw_session(generator(seed, talker_number, 1_000_000 + recording // RECORDINGS_A_SESSION))
    return record(speak(talker, session, rng.uniform(2.5, 4.5), rng), session, rng)


def write_talker(folder: Path, seed: int, talker_number: int, num_recordings: int) -> list[Path]:
    """Write one talker's recordings as `<session>-<segment>.flac`; returns their paths, sorted."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for recording in range(num_recordings):
        session, segment = divmod(recording, RECORDINGS_A_SESSION)
        paths.append(folder / f"{session + 1:02d}-{segment + 1:03d}.flac")
        soundfile.write(paths[-1], synthesise(seed, talker_number, recording), SAMPLE_RATE, subtype="PCM_16")
    return paths


def write_talkers(folder: Path, num_talkers: int, num_recordings: int, seed: int) -> dict[str, list[Path]]:
    """Write a folder a talker, `talker0001` and so on; returns talker -> paths."""
    return {f"talker{number:04d}": write_talker(folder / f"talker{number:04d}", seed, number, num_recordings)
            for number in range(1, num_talkers + 1)}


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "synthesise_talkers.py",
        summary="Write recordings of artificial talkers, one folder a talker: DIR/talker0001/01-001.flac ...",
        example="local/synthesise_talkers.py --talkers 24 --recordings 12 corpora/talkers")
    parser.add_argument("folder", metavar="DIR", help="where the talkers' folders are made")
    parser.add_argument("--talkers", type=entry.number(int, 1, 9999), default=24, metavar="N",
                        help="default: %(default)s")
    parser.add_argument("--recordings", type=entry.number(int, 1, 1998), default=12, metavar="N",
                        help="recordings a talker, two a session (default: %(default)s)")
    entry.add_seed_option(parser)
    return entry.run(parser, synthesise_all, argv)


def synthesise_all(args: argparse.Namespace) -> None:
    written = write_talkers(Path(args.folder), args.talkers, args.recordings, args.seed)
    args.report["num_recordings"] = sum(map(len, written.values()))
    entry.log.info("%s: %d recordings of %d talkers", args.folder, args.report["num_recordings"], len(written))


if __name__ == "__main__":
    sys.exit(main())
