"""Which parameters are decayed."""

import numpy as np
import pytest

from rnnkit import nn, optim
from rnnkit.errors import ArgumentError
from rnnkit.module import Module


class Model(Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.recurrent = nn.LSTM(4, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.embedding.weight


def names_of(model, groups):
    names = {id(param): name for name, param in model.named_parameters()}
    return [[names[id(param)] for param in group["params"]] for group in groups]


def test_matrices_are_decayed_and_nothing_else_each_parameter_once():
    model = Model()
    groups = optim.parameter_groups(model, 0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    decayed, spared = names_of(model, groups)
    assert decayed == ["embedding.weight", "recurrent.weight_ih_l0", "recurrent.weight_hh_l0"]
    assert spared == [
        "recurrent.bias_ih_l0", "recurrent.bias_hh_l0", "norm.weight", "norm.bias", "head.bias",
    ]


@pytest.mark.parametrize("name", ["embedding.weight", "head.weight", "emb*"])
def test_named_parameters_are_spared_by_any_of_their_names(name):
    model = Model()
    decayed, spared = names_of(model, optim.parameter_groups(model, 0.1, [name]))
    assert decayed == ["recurrent.weight_ih_l0", "recurrent.weight_hh_l0"]
    assert spared[0] == "embedding.weight"


def test_an_empty_group_is_left_out():
    (group,) = optim.parameter_groups(nn.LayerNorm(3), 0.1)
    assert group["weight_decay"] == 0
    (group,) = optim.parameter_groups(nn.Linear(3, 2, bias=False), 0.1)
    assert group["weight_decay"] == 0.1


def test_an_optimizer_decays_them_so():
    model = nn.Linear(3, 2)
    before = model.state_dict()
    optimizer = optim.AdamW(optim.parameter_groups(model, 0.5), lr=0.1)
    for param in model.parameters():
        param.grad = param.detach() * 0
    optimizer.step()
    np.testing.assert_allclose(model.weight.numpy(), before["weight"] * 0.95, rtol=1e-6)
    np.testing.assert_array_equal(model.bias.numpy(), before["bias"])


def test_wrong_arguments():
    model = Model()
    with pytest.raises(ArgumentError, match="weight_decay: expected a number >= 0"):
        optim.parameter_groups(model, -0.1)
    with pytest.raises(ArgumentError, match=r"no_decay: no parameter is called 'embeding\.weight'"):
        optim.parameter_groups(model, 0.1, ["embeding.weight"])
    with pytest.raises(ArgumentError, match="no_decay: expected a sequence of names"):
        optim.parameter_groups(model, 0.1, "embedding.weight")
