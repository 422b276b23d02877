"""What of a recording's quality ruins embeddings, as warnings.

The thresholds come from the bundled model on 14 speakers of read speech, degraded by known amounts: the
cosine of an embedding to that of the clean recording, and how far targets and nontargets lie apart
(d', 3.4 clean). Noise: 0.82 and 2.2 at 15 dB. Band: 0.97 and 3.3 at 6 kHz, 0.86 and 2.9 at 4 kHz. Clipping:
0.98 and 3.3 with 1 % of samples. Level: 0.99 and 3.2 at -50 dBFS in 16 bits.
"""

from collections.abc import Callable

from speakerkit.features.quality import Quality

LEAST_SNR_DB = 15.0
LEAST_BANDWIDTH_HZ = 5500.0
MOST_CLIPPED = 0.01
LEAST_LEVEL_DBFS = -50.0
MOST_DC_OFFSET = 0.05
LEAST_SPEECH_S = 1.0
LEAST_SPEECH_SHARE = 0.3
MOST_SILENT = 0.5

# code -> what it means, and when it holds of (quality, sample rate)
WARNINGS: dict[str, tuple[str, Callable[[Quality], bool]]] = {
    "no-speech": ("nothing stands out of the noise as speech does", lambda q: q.speech_s == 0.0),
    "little-speech": (f"less than {LEAST_SPEECH_S:g} s of speech: the embedding says little",
                      lambda q: 0.0 < q.speech_s < LEAST_SPEECH_S),
    "pauses": (f"less than {LEAST_SPEECH_SHARE:.0%} of it is speech: --vad leaves out the rest",
               lambda q: 0.0 < q.speech_s < LEAST_SPEECH_SHARE * q.duration_s),
    "noisy": (f"SNR below {LEAST_SNR_DB:g} dB", lambda q: q.snr_db is not None and q.snr_db < LEAST_SNR_DB),
    "narrow-band": (f"nothing above {LEAST_BANDWIDTH_HZ:g} Hz or lower: once 8 kHz, a telephone or a codec?",
                    lambda q: q.bandwidth_hz is not None and q.bandwidth_hz < LEAST_BANDWIDTH_HZ),
    "clipped": (f"more than {MOST_CLIPPED:.0%} of the samples are clipped", lambda q: q.clipped > MOST_CLIPPED),
    "quiet": (f"speech below {LEAST_LEVEL_DBFS:g} dBFS: in 16 bits the rounding is heard",
              lambda q: q.level_dbfs is not None and q.level_dbfs < LEAST_LEVEL_DBFS),
    "dc-offset": (f"the mean is more than {MOST_DC_OFFSET:g} off zero: a faulty input",
                  lambda q: abs(q.dc_offset) > MOST_DC_OFFSET),
    "digital-silence": (f"more than {MOST_SILENT:.0%} of it is digital silence", lambda q: q.silent > MOST_SILENT),
    "equal-channels": ("two channels hold the same samples: one says it all", lambda q: False),
    "opposite-channels": ("two channels cancel each other: don't mix them", lambda q: False),
}
