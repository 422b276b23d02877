"""Mean normalisation over time."""

import torch


def subtract_mean(features: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
    """Subtract each utterance's mean over its frames; no variance normalisation.

    Args:
        features: (num_frames, columns) or (batch, num_frames, columns).
        lengths: (batch,) valid frames of a padded batch; the rest counts for nothing.

    Returns:
        The same shape; frames past ``lengths`` are shifted too and mean nothing.
    """
    if lengths is None:
        return features - features.mean(dim=-2, keepdim=True)
    valid = torch.arange(features.shape[-2], device=features.device) < lengths[:, None]
    total = torch.where(valid[..., None], features, 0).sum(dim=-2, keepdim=True)
    return features - total / lengths[:, None, None]
