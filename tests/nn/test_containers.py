"""Sequential, ModuleList, ModuleDict and ParameterList."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError


def test_sequential_calls_in_order_under_pytorchs_names():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = rk.randn(5, 3)
    expected = model[2](model[0](x).tanh())
    np.testing.assert_array_equal(model(x).numpy(), expected.numpy())
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_an_empty_sequential_is_the_identity():
    x = rk.randn(2)
    assert nn.Sequential()(x) is x


def test_a_module_in_two_places_is_called_twice_and_counted_once():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    assert len(model) == 3
    assert len(list(model.parameters())) == 2
    x = rk.randn(3, 2)
    np.testing.assert_array_equal(model(x).numpy(), layer(layer(x).tanh()).numpy())


@pytest.mark.parametrize("make", [lambda modules: nn.Sequential(*modules), nn.ModuleList])
def test_rows_count_index_slice_and_grow(make):
    modules = [nn.Linear(2, 2), nn.Tanh(), nn.ReLU()]
    row = make(modules)
    assert len(row) == 3
    assert list(row) == modules
    assert row[-1] is modules[2]
    part = row.eval()[1:]
    assert type(part) is type(row)
    assert list(part) == modules[1:]
    assert not part.training
    new = nn.Sigmoid()
    row[-1] = new
    assert list(row) == [*modules[:2], new]
    assert row.append(nn.Tanh()) is row
    assert len(row.extend([nn.Tanh(), nn.Tanh()])) == 6
    with pytest.raises(IndexError):
        row[6]
    with pytest.raises(IndexError):
        row[6] = new
    with pytest.raises(TypeError, match=r"\[6\]: expected a Module, got function"):
        row.append(rk.tanh)
    with pytest.raises(TypeError, match=r"\[0\]: expected a Module, got int"):
        row[0] = 3


@pytest.mark.parametrize("make", [lambda modules: nn.Sequential(*modules), nn.ModuleList])
def test_a_slice_leaves_the_modes_of_its_children(make):
    row = make([nn.Linear(2, 2), nn.Dropout(0.5), nn.Tanh()])
    row[1].eval()
    assert row[1:].training
    assert [module.training for module in row] == [True, False, True]


def test_a_module_list_holds_parameters_and_is_not_called():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    net = Net()
    assert list(net.state_dict())[::2] == ["layers.0.weight", "layers.1.weight"]
    assert net(rk.randn(3, 2)).shape == (3, 2)
    with pytest.raises(NotImplementedError, match="ModuleList defines no forward"):
        net.layers(rk.randn(3, 2))


def test_repr_names_the_children():
    assert repr(nn.Sequential(nn.Tanh(), nn.ReLU())) == (
        "Sequential(\n  (0): Tanh()\n  (1): ReLU()\n)"
    )


def test_a_sequential_of_a_dict_has_its_names():
    model = nn.Sequential({"inner": nn.Linear(3, 4), "act": nn.Tanh(), "outer": nn.Linear(4, 2)})
    assert list(model.state_dict()) == ["inner.weight", "inner.bias", "outer.weight", "outer.bias"]
    x = rk.randn(5, 3)
    expected = model.outer(model[0](x).tanh())
    np.testing.assert_array_equal(model(x).numpy(), expected.numpy())
    model[1] = nn.Identity()
    assert type(model.act) is nn.Identity
    assert len(model) == 3


def test_a_module_dict_is_a_dict_whose_parameters_are_its_own():
    heads = nn.ModuleDict({"tag": nn.Linear(2, 3), "lemma": nn.Linear(2, 4)})
    assert list(heads) == list(heads.keys()) == ["tag", "lemma"]
    assert list(heads.values()) == [heads["tag"], heads["lemma"]]
    assert "tag" in heads
    assert "x" not in heads
    assert list(heads.state_dict()) == ["tag.weight", "tag.bias", "lemma.weight", "lemma.bias"]
    heads["more"] = nn.Tanh()
    heads.update([("tag", nn.Identity())])
    assert [type(module).__name__ for _, module in heads.items()] == ["Identity", "Linear", "Tanh"]
    assert type(heads.pop("more")) is nn.Tanh
    del heads["tag"]
    assert len(heads) == 1
    heads.clear()
    assert not len(heads)
    with pytest.raises(KeyError):
        heads["tag"]


def test_a_module_dict_refuses_what_is_no_module_and_names_it_has():
    with pytest.raises(TypeError, match=r"ModuleDict\['a'\]: expected a Module, got function"):
        nn.ModuleDict({"a": rk.tanh})
    with pytest.raises(ArgumentError, match="already has an attribute 'train'"):
        nn.ModuleDict({"train": nn.Tanh()})


def test_a_parameter_list_registers_what_it_holds():
    params = nn.ParameterList([nn.Parameter(np.ones(2, np.float32)), np.zeros(3)])
    params.append(rk.ones(1))
    assert [p.shape for p in params] == [(2,), (3,), (1,)]
    assert list(params.state_dict()) == ["0", "1", "2"]
    params[-1] = rk.zeros(4)
    assert params[2] is list(params.parameters())[2]
    assert len(params) == 3
    part = params[1:]
    assert type(part) is nn.ParameterList
    assert [a is b for a, b in zip(part, list(params)[1:], strict=True)] == [True, True]
    with pytest.raises(IndexError):
        params[3] = rk.zeros(4)
