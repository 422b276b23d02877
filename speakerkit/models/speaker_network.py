"""What every network does: features to outputs a step, those to statistics, those to an embedding."""

import torch
from torch import nn


class SpeakerNetwork(nn.Module):
    """From (batch, num_frames, num_mel_bins) to embeddings, exact in padded batches: given ``lengths``, an
    utterance's embedding is the one it has alone. Subclasses have ``frame_outputs``, ``statistics`` and an
    ``embedding`` layer."""

    convolutional: tuple[str, ...] = ("trunk",)  # the parts before pooling: where nearly all arithmetic is
    float32_as_it_is = False  # in float32 neither norms folded nor memory reordered: its last norm enlarges rounding
    embedding: nn.Linear

    def forward(self, features: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Embeddings.

        Args:
            features: (batch, num_frames, num_mel_bins), at least one frame.
            lengths: (batch,) int64 valid frames of a padded batch, or None.

        Returns:
            (batch, embedding_dim) float32, not length-normalised.
        """
        return self.project(self.statistics(*self.frame_outputs(features, lengths)))

    def frame_outputs(self, features: torch.Tensor, lengths: torch.Tensor | None = None):
        """What is pooled, and its valid steps."""
        return self.trunk(features, lengths)

    def statistics(self, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """(batch, size) float32 of ``frame_outputs``: means, then deviations."""
        raise NotImplementedError

    def project(self, statistics: torch.Tensor) -> torch.Tensor:
        """(batch, embedding_dim) of ``statistics``."""
        return self.embedding(statistics)

    @property
    def last_layer(self) -> nn.Linear:
        """The layer whose output, normalised by ``last_norm`` where there is one, is the embedding."""
        return self.embedding

    @property
    def last_norm(self) -> nn.BatchNorm1d | None:
        """The batch norm behind the last layer."""
        return None

    def classifier_input(self, embedding: torch.Tensor) -> torch.Tensor:
        """What the margin softmax sees while training: the embedding itself."""
        return embedding
