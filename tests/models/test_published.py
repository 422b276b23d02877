"""Published networks: the originals' embeddings from the originals' weights, through the importer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from speakerkit.errors import DataError
from speakerkit.models.networks import count_parameters
from speakerkit.models.published.convert import convert
from speakerkit.models.published.recognise import recognise

GOLDEN = Path(__file__).resolve().parent.parent / "golden"  # see its README.md
# golden file -> source; learnable parameters without the classification layer, the same with running statistics
ORIGINALS = {"3dspeaker_campplus": ("3dspeaker", 6_848_544, 6_930_720)}


@pytest.fixture(scope="module", params=ORIGINALS)
def original(request, original_weights) -> tuple[str, nn.Module]:
    weights = original_weights(request.param)
    recipe = recognise(weights, "x.pt", ORIGINALS[request.param][0])
    return request.param, convert(weights, recipe, "x.pt").requires_grad_(False)


def test_embeddings_are_the_originals(original, draw_features):
    name, network = original
    golden = np.load(GOLDEN / f"{name}.npz")
    assert len(golden.files) >= 5
    for key in golden.files:
        theirs = torch.from_numpy(golden[key]).flatten()
        ours = network(draw_features(int(key[1:])))[0]
        assert ours.shape == theirs.shape and ours.dtype == torch.float32
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm(), key  # sums in another order, through up to 300 layers


def test_number_of_parameters(original):
    name, network = original
    assert count_parameters(network) == ORIGINALS[name][1:]


def test_whole_network_in_a_padded_batch(original, check_padded_batch):
    _, network = original
    check_padded_batch(network, [1, 2, 9, 103], bins=80, padding=7)


@pytest.fixture
def campplus(original_weights):
    return original_weights("3dspeaker_campplus")


@pytest.mark.parametrize("change, message", [
    (lambda w: w.pop("xvector.tdnn.linear.weight"), r"doesn't fit a CAM\+\+: 1 keys missing \['xvector.tdnn.linear"),
    (lambda w: w.update(extra=torch.ones(1)), r"0 keys missing \[\], 1 unexpected \['extra'\]"),
    (lambda w: w.update({"head.bn1.bias": torch.ones(33)}), r"'head.bn1.bias' has shape \[33\]; want \[32\]"),
    (lambda w: w.update({"head.bn1.bias": torch.ones(()).expand(10**14)}), "'head.bn1.bias' has shape"),
    (lambda w: w["head.bn1.bias"].fill_(float("nan")), "'head.bn1.bias' holds values that aren't finite"),
    (lambda w: w.pop("xvector.block1.tdnnd1.linear1.weight"), "holds no network we know"),
])
def test_what_does_not_fit(campplus, change, message):
    change(campplus)
    with pytest.raises(DataError, match=message):
        convert(campplus, recognise(campplus, "x.pt"), "x.pt")


def test_whose_it_is(campplus):
    assert recognise(campplus, "x.pt").source == "3dspeaker"
    assert recognise(campplus, "x.pt", "wespeaker").fbank.window_type == "hamming"
    with_classifier = campplus | {"projection.weight": torch.ones(5, 192)}
    recipe = recognise(with_classifier, "x.pt")
    assert (recipe.source, recipe.left_out, recipe.model.std_floor) == ("wespeaker", ("projection.weight",), 1e-7)
    with pytest.raises(DataError, match="which speechbrain doesn't publish; want --from 3dspeaker or wespeaker"):
        recognise(campplus, "x.pt", "speechbrain")


def test_half_precision_and_float64_become_float32(campplus):
    for dtype in (torch.float16, torch.float64):
        stored = {key: weight.to(dtype) for key, weight in campplus.items()}
        network = convert(stored, recognise(stored, "x.pt"), "x.pt")
        assert all(p.dtype == torch.float32 for p in network.parameters())
