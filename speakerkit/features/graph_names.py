"""Names of the tensors at which an exported graph is entered, left and cut."""

SAMPLES = "samples"  # (batch, num_samples) float32 in [-1, 1], padded with NaN
FRAMED = "framed_samples"  # the same, with what lies beyond an utterance's ends
FBANK = "fbank"  # (batch, num_frames, columns)
FEATURES = "features"  # the same, mean removed where the model wants it
NUM_FRAMES = "num_frames"  # (batch,) int64, valid frames
FRAME_OUTPUTS = "frame_outputs"  # (batch, channels, num_steps, freq): what is pooled
CONVOLVED = "convolved"  # (batch, channels, num_steps) or with freq: what may be computed in half precision
NUM_STEPS = "num_steps"  # (batch,) int64, valid steps
STATISTICS = "statistics"  # (batch, n): what pooling gives
EMBEDDING = "embedding"  # (batch, embedding_dim), not length-normalised
RANKS = {SAMPLES: 2, FRAMED: 2, FBANK: 3, FEATURES: 3, FRAME_OUTPUTS: 4, STATISTICS: 2, EMBEDDING: 2}
COUNTS = (NUM_FRAMES, NUM_STEPS)
