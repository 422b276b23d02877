"""Batches as the device gets them: samples sent instead of features become the same features there."""

import dataclasses

import pytest
import torch

from speakerkit.config import AugmentationConfig, FbankConfig, TrainingConfig
from speakerkit.errors import ConfigError
from speakerkit.io.audio import AudioOptions
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.training import feeding, setup
from speakerkit.training.chunks import FeatureChunks, TrainingBatches
from speakerkit.training.sampling import BatchSampler

CPU = torch.device("cpu")


def batches_of(train_dir, system, as_samples):
    chunks = setup.make_chunks(train_dir, system, AudioOptions(), BadRecordings("x"), False)
    sampler = BatchSampler(chunks.labels, system.training.batch_size, "uniform", seed=1)
    return TrainingBatches(chunks, sampler, True, as_samples=as_samples)


@pytest.mark.parametrize("warps", [(1.0,), (0.9, 1.0, 1.1)])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_features_made_on_the_device_are_the_workers(train_dir, make_system, warps, num_workers):
    augmentation = AugmentationConfig(speeds=(0.9, 1.0), vtln_warps=warps, noise=0.5, reverberation=0.5)
    system = make_system(augmentation, batch_size=7)
    plain = list(feeding.feed(batches_of(train_dir, system, False), 3, 6, num_workers, CPU))
    sent = list(feeding.feed(batches_of(train_dir, system, True), 3, 6, num_workers, CPU))
    assert len(plain) == len(sent) == 3
    for (features, classes, _), (ours, our_classes, _) in zip(plain, sent, strict=True):
        assert ours.shape == (7, 40, 24) and torch.equal(classes, our_classes)
        torch.testing.assert_close(ours, features, rtol=0, atol=1e-4)  # of logarithms around 10


def test_places_of_samples_are_those_of_features(train_dir, make_system):
    batches = batches_of(train_dir, make_system(batch_size=6), True)
    whole, part = batches[2], batches.of_places(range(2, 5))[2]
    assert torch.equal(part[0][0], whole[0][0][2:5]) and torch.equal(part[1], whole[1][2:5])


def test_what_cannot_be_made_on_the_device_is_refused(train_dir, make_system):
    stored = FeatureChunks(["a-1"], ["a"], {}, {}, 40)
    with pytest.raises(ConfigError, match="features_on is 'device'; the training directory holds features already"):
        feeding.check_features_on(stored, "device")
    feeding.check_features_on(stored, "workers")
    chunks = batches_of(train_dir, make_system(), True).chunks
    feeding.check_features_on(chunks, "device")
    chunks.fbank = dataclasses.replace(FbankConfig(), dither=1.0)
    with pytest.raises(ConfigError, match=r"features_on is 'device' and \[fbank\] dither 1.0; want dither 0"):
        feeding.check_features_on(chunks, "device")
    with pytest.raises(ValueError, match="features_on is 'gpu'; want workers or device"):
        TrainingConfig(features_on="gpu")
