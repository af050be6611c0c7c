"""The heads: layers as published, initialisation, shapes."""

import pytest
import torch
from torch import nn

from shest.systems.shest import heads


def kinds(module):
    return [type(layer).__name__ for layer in module]


def test_classifier_is_as_published():
    head = heads.Classifier(1536, 6)
    assert kinds(head.hidden) == ["LayerNorm"] + 2 * ["Linear", "LayerNorm", "ReLU", "Dropout"]
    widths = [(m.in_features, m.out_features) for m in head.modules() if isinstance(m, nn.Linear)]
    assert widths == [(1536, 1024), (1024, 512), (512, 6)]
    assert {m.p for m in head.modules() if isinstance(m, nn.Dropout)} == {0.3}


def test_reconstructor_is_as_published():
    head = heads.Reconstructor(1536, 20)
    widths = [(m.in_features, m.out_features) for m in head.modules() if isinstance(m, nn.Linear)]
    assert widths == [(1536, 2048), (2048, 4096), (4096, 20), (4096, 20), (4096, 20)]
    assert [tuple(t.shape) for t in head(torch.randn(7, 1536))] == [(7, 20)] * 3


@pytest.mark.parametrize("make", [heads.Classifier, heads.Reconstructor])
def test_weights_are_kaiming_and_biases_zero(make):
    torch.manual_seed(0)
    for layer in make(600, 400, hidden=(500, 300)).modules():
        if isinstance(layer, nn.Linear):
            assert layer.weight.std().item() == pytest.approx((2 / layer.in_features) ** 0.5, rel=0.02)
            assert not layer.bias.any()


def test_dropout_acts_in_training_only():
    head = heads.Classifier(8, 3, hidden=(32, 16))
    x = torch.randn(5, 8)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))


def test_parameter_ranges_name_every_parameter():
    head = heads.Classifier(4, 2, hidden=(3, 3))
    with torch.no_grad():
        head.cell_type.bias[:] = torch.tensor([-7.0, 9.0])
    said = heads.parameter_ranges(head)
    assert "cell_type.bias -7 to 9" in said
    assert all(name in said for name, _ in head.named_parameters())
