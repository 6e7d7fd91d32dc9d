"""FID's Inception-v3: shapes and names of the published file, and numbers that a public implementation gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fedloom.errors import BadInput
from fedloom.models.evaluators.features import inception_file, load_features
from fedloom.models.evaluators.inception import Inception, as_tensorflow, load_inception

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Uniform weights of NumPy's frozen generator, by the published names."""
    draws, made = np.random.RandomState(0), {}
    for name, value in sorted(Inception().state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        u = torch.from_numpy(draws.uniform(-1, 1, tuple(value.shape)).astype(np.float32))
        if name.endswith(("running_var", "bn.weight")):
            made[name] = 1 + u / 2
        else:
            made[name] = u * (6 / value[0].numel()) ** 0.5 if value.ndim > 1 else u / 2
    return made


@pytest.fixture(scope="module")
def file(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "pt_inception.pth"
    torch.save(weights, path)
    return path


def test_published_size():
    """23 850 960 weights: 95.5 MB with the 34 432 running means and variances, as the published file."""
    network = Inception()
    assert sum(p.numel() for p in network.parameters()) == 23_850_960
    assert sum(b.numel() for b in network.buffers() if b.ndim) == 34_432


# torch-fidelity's feature extractor, with these weights and pictures: features 1 to 3 and logits 0 and 1.
EXPECTED = {
    32: ([10.2177, 4.9446, 4.2848], [-10.0844, 2.4826]),
    512: ([12.7315, 4.3894, 5.9365], [-12.7815, 3.9255]),
}


@pytest.mark.parametrize("side", EXPECTED)
def test_numbers_of_a_public_implementation(side, file):
    pictures = np.random.RandomState(side).randint(0, 256, (1, side, side, 3)).astype(np.uint8)
    network = load_features(str(file), torch.device("cpu"))
    features, classes = network.look(pictures)
    assert features.shape == (1, 2048)
    assert classes is not None
    assert classes.shape == (1, 1008)
    rows, logits = EXPECTED[side]
    assert features[0, 1:4].tolist() == pytest.approx(rows, abs=1e-3)
    assert network.logits(features)[0, :2].tolist() == pytest.approx(logits, abs=2e-3)
    assert network.name == "Inception-v3"


def test_resizing_takes_the_corner_not_the_middle():
    row = torch.tensor([0.0, 10.0]).view(1, 1, 1, 2)
    assert as_tensorflow(row, 4)[0, 0, 0].tolist() == [0.0, 5.0, 10.0, 10.0]
    column = torch.arange(6.0).view(1, 1, 6, 1).expand(1, 1, 6, 6)
    assert as_tensorflow(column, 3)[0, 0, :, 0].tolist() == [0.0, 2.0, 4.0]  # nothing is averaged


def test_other_files_are_refused(weights, file, tmp_path):
    usual = dict(weights, **{"fc.weight": torch.zeros(1000, 2048)})
    save_file(usual, tmp_path / "usual.safetensors")
    with pytest.raises(BadInput, match=r"fc\.weight is \(1000, 2048\), expected \(1008, 2048\)"):
        load_inception(tmp_path / "usual.safetensors")
    assert inception_file(str(tmp_path)) == tmp_path / "usual.safetensors"
    torch.save({k: v for k, v in weights.items() if k != "fc.bias"}, tmp_path / "less.pth")
    with pytest.raises(BadInput, match=r"fc\.bias is None"):
        load_inception(tmp_path / "less.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(BadInput, match="holds a list"):
        load_inception(tmp_path / "list.pth")
    (tmp_path / "cut.pth").write_bytes(file.read_bytes()[:1000])
    with pytest.raises(BadInput, match=r"cut\.pth: cannot be read"):
        load_inception(tmp_path / "cut.pth")
    with pytest.raises(BadInput, match="holds 4 files of weights and no config"):
        inception_file(str(tmp_path))
    (tmp_path / "weights.npz").write_bytes(b"")
    with pytest.raises(BadInput, match=r"a \.npz file, allowed: "):
        inception_file(str(tmp_path / "weights.npz"))
