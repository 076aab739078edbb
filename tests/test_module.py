"""Module and Parameter: registration, walking, saving, loading, conversion, printing."""

import copy
import pickle

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError, DTypeError
from rnnkit.module import Module, Parameter


class Scale(Module):
    def __init__(self, value=1.0):
        super().__init__()
        self.factor = Parameter(np.full(2, value, np.float32))
        self.register_buffer("seen", rk.tensor(np.zeros(1, np.int64)))
        self.register_buffer("cache", rk.tensor(np.zeros(1, np.float32)), persistent=False)

    def forward(self, x):
        return x * self.factor

    def extra_repr(self):
        return "2"


class Net(Module):
    def __init__(self):
        super().__init__()
        self.first = Scale(1.0)
        self.second = Scale(2.0)
        self.shift = Parameter(np.zeros(2, np.float32))

    def forward(self, x):
        return self.second(self.first(x)) + self.shift


def names(pairs):
    return [name for name, _ in pairs]


# -- Parameter -------------------------------------------------------------------------------


def test_a_parameter_shares_a_writeable_array_and_copies_a_read_only_one():
    array = np.zeros(3)
    assert Parameter(array).data is array
    array.flags.writeable = False
    copied = Parameter(array)
    copied.data += 1
    np.testing.assert_array_equal(array, np.zeros(3))


def test_dtypes_of_parameters():
    assert Parameter([1.0, 2.0]).dtype == np.float32
    assert Parameter(np.zeros(2)).dtype == np.float64
    assert Parameter(rk.tensor([1.0])).requires_grad
    assert not Parameter(np.arange(3), requires_grad=False).requires_grad
    with pytest.raises(DTypeError, match="int64"):
        Parameter(np.arange(3))


def test_a_parameter_says_what_it_is():
    assert repr(Parameter([1.5])) == "Parameter containing:\ntensor([1.5], requires_grad=True)"


# -- registration ----------------------------------------------------------------------------


def test_assignment_registers_and_deletion_forgets():
    net = Net()
    assert names(net.named_parameters()) == ["shift", "first.factor", "second.factor"]
    assert names(net.named_children()) == ["first", "second"]
    del net.first
    assert names(net.named_parameters()) == ["shift", "second.factor"]
    assert not hasattr(net, "first")


def test_other_attributes_are_not_registered():
    net = Net()
    net.note = "text"
    net.plain = rk.tensor([1.0])
    net.cells = [Scale()]
    assert names(net.named_parameters()) == ["shift", "first.factor", "second.factor"]
    assert names(net.named_buffers()) == [
        "first.seen",
        "first.cache",
        "second.seen",
        "second.cache",
    ]


def test_a_registered_name_takes_only_its_kind_or_none():
    net = Net()
    with pytest.raises(TypeError, match=r"Net.shift is a registered parameter: .* got Tensor"):
        net.shift = rk.tensor([1.0])
    with pytest.raises(TypeError, match=r"Net.first is a registered module: .* got int"):
        net.first = 3
    with pytest.raises(TypeError, match=r"Scale.seen is a registered buffer: .* got ndarray"):
        net.first.seen = np.zeros(1)
    net.shift = None
    assert net.shift is None
    assert names(net.named_parameters()) == ["first.factor", "second.factor"]
    net.shift = Parameter([1.0])
    assert names(net.named_parameters())[0] == "shift"


def test_none_reserves_a_name():
    module = Module()
    module.register_parameter("bias", None)
    assert module.bias is None
    assert module.state_dict() == {}
    with pytest.raises(TypeError, match="registered parameter"):
        module.bias = 3.0


def test_a_name_can_change_its_kind():
    module = Module()
    module.thing = Parameter([1.0])
    module.other = Scale()
    module.thing = Scale()
    assert names(module.named_children()) == ["other", "thing"]
    assert names(module.named_parameters()) == ["other.factor", "thing.factor"]


@pytest.mark.parametrize("name", ["", "a.b", 3, "forward", "training"])
def test_names_that_cannot_be_registered(name):
    with pytest.raises(ArgumentError, match=r"expected a name|already has an attribute"):
        Module().register_parameter(name, Parameter([1.0]))


def test_assigning_before_super_init():
    class Early(Module):
        def __init__(self):
            self.weight = Parameter([1.0])

    with pytest.raises(AttributeError, match=r"Early: call super\(\).__init__\(\) before"):
        Early()


def test_a_module_cannot_contain_itself():
    net = Net()
    with pytest.raises(ArgumentError, match="cannot contain itself"):
        net.me = net
    with pytest.raises(ArgumentError, match="cannot contain itself"):
        net.first.parent = net


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match=r"Module defines no forward\(\)"):
        Module()(1)


# -- walking ---------------------------------------------------------------------------------


def test_shared_parameters_and_modules_are_walked_once():
    net = Net()
    net.second.factor = net.first.factor
    net.third = net.first
    assert names(net.named_parameters()) == ["shift", "first.factor"]
    assert names(net.named_parameters(remove_duplicate=False)) == [
        "shift",
        "first.factor",
        "second.factor",
        "third.factor",
    ]
    assert names(net.named_modules()) == ["", "first", "second"]
    assert names(net.named_modules(remove_duplicate=False)) == ["", "first", "second", "third"]
    assert len(list(net.children())) == 2


def test_prefixes():
    assert names(Net().named_parameters("net"))[:2] == ["net.shift", "net.first.factor"]
    assert names(Net().named_modules("net")) == ["net", "net.first", "net.second"]


def test_apply_goes_bottom_up():
    seen = []
    net = Net()
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert seen == ["Scale", "Scale", "Net"]


def test_train_and_eval_reach_all_modules():
    net = Net()
    assert net.eval() is net
    assert [module.training for module in net.modules()] == [False] * 3
    net.train()
    assert [module.training for module in net.modules()] == [True] * 3


def test_requires_grad_and_zero_grad():
    net = Net()
    net(rk.tensor([1.0, 2.0])).sum().backward()
    assert all(param.grad is not None for param in net.parameters())
    net.zero_grad(set_to_none=False)
    assert all((param.grad.data == 0).all() for param in net.parameters())
    net.zero_grad()
    assert all(param.grad is None for param in net.parameters())
    assert net.requires_grad_(False) is net
    assert not net(rk.tensor([1.0, 2.0])).requires_grad


# -- state -----------------------------------------------------------------------------------


def test_state_dict_names_order_and_copies():
    net = Net()
    state = net.state_dict()
    assert list(state) == [
        "shift",
        "first.factor",
        "first.seen",
        "second.factor",
        "second.seen",
    ]
    state["shift"][...] = 9
    np.testing.assert_array_equal(net.shift.data, [0, 0])


def test_state_dict_is_contiguous():
    module = Module()
    module.weight = Parameter(np.zeros((3, 4), np.float32).T)
    assert module.state_dict()["weight"].flags.c_contiguous


def test_loading_keeps_parameters_and_their_sharing():
    net, other = Net(), Net()
    other.shift.data += 5
    other.first.factor.data *= 3
    net.second.factor = net.first.factor
    before = list(net.parameters())
    arrays = [param.data for param in before]
    state = other.state_dict()
    state["second.factor"] = state["first.factor"]
    assert net.load_state_dict(state) == ([], [])
    assert all(a is b for a, b in zip(before, net.parameters(), strict=True))
    assert all(param.data is array for param, array in zip(before, arrays, strict=True))
    np.testing.assert_array_equal(net.shift.data, [5, 5])
    np.testing.assert_array_equal(net.second.factor.data, [3, 3])
    state["shift"][...] = 7
    np.testing.assert_array_equal(net.shift.data, [5, 5])


def test_entries_of_one_shared_parameter_must_agree():
    net = Net()
    net.second.factor = net.first.factor
    before = net.state_dict()
    state = net.state_dict()
    state["second.factor"] += 1
    with pytest.raises(ArgumentError, match=r"second\.factor: expected the values of first\.f"):
        net.load_state_dict(state)
    np.testing.assert_array_equal(net.first.factor.data, before["first.factor"])
    state["second.factor"][...] = state["first.factor"][...] = np.nan
    net.load_state_dict(state)
    assert np.isnan(net.first.factor.data).all()
    del state["first.factor"]
    state["second.factor"][...] = 4
    assert net.load_state_dict(state, strict=False).missing_keys == ["first.factor"]
    np.testing.assert_array_equal(net.first.factor.data, [4, 4])


def test_loading_tensors_lists_and_other_precisions():
    net = Net()
    state = net.state_dict()
    state["shift"] = np.array([0.1, 0.2])
    state["first.factor"] = rk.tensor([3.0, 4.0], requires_grad=True)
    state["second.factor"] = [np.float16(5), np.float16(6)]
    state["first.seen"] = np.array([7], np.uint8)
    net.load_state_dict(state)
    assert net.shift.dtype == np.float32
    np.testing.assert_array_equal(net.shift.data, np.array([0.1, 0.2], np.float32))
    np.testing.assert_array_equal(net.first.factor.data, [3, 4])
    np.testing.assert_array_equal(net.second.factor.data, [5, 6])
    np.testing.assert_array_equal(net.first.seen.data, [7])


def test_loading_lists_every_misfit_and_changes_nothing():
    net = Net()
    net.register_buffer("mask", rk.tensor(np.zeros(2, np.uint8)))
    state = net.state_dict()
    state["shift"] = np.ones(2)
    del state["first.seen"]
    state["extra"] = np.zeros(1)
    state["first.factor"] = np.zeros((2, 1), np.float32)
    state["second.factor"] = np.zeros(2, np.int64)
    state["second.seen"] = np.zeros(1)
    state["mask"] = np.array([1, 300])
    state["shift"] = [[1.0], [1.0, 2.0]]
    with pytest.raises(ArgumentError) as caught:
        net.load_state_dict(state)
    lines = str(caught.value).split("\n  ")
    with pytest.raises(ValueError, match="inhomogeneous") as of_numpy:
        np.asarray(state["shift"])
    ragged = str(of_numpy.value)
    assert lines == [
        "Net: state_dict does not fit, nothing was loaded:",
        "missing: first.seen",
        "unexpected: extra",
        "shift: expected a rectangular array of numbers, " + ragged,
        "mask: expected integers that fit uint8, got larger ones in int64",
        "first.factor: expected shape (2,), got (2, 1)",
        "second.factor: expected floating numbers, got int64",
        "second.seen: expected integers, got float64",
    ]
    np.testing.assert_array_equal(net.shift.data, [0, 0])


@pytest.mark.parametrize("value", [np.zeros(2, complex), np.array(["a", "b"]), np.zeros(2, bool)])
def test_loading_refuses_what_is_not_real(value):
    net = Net()
    with pytest.raises(ArgumentError, match="shift: expected floating numbers, got"):
        net.load_state_dict({**net.state_dict(), "shift": value})


def test_loading_without_strictness_returns_what_it_left_aside():
    net = Net()
    result = net.load_state_dict({"shift": np.ones(2), "extra": 0}, strict=False)
    assert result.unexpected_keys == ["extra"]
    assert result.missing_keys == ["first.factor", "first.seen", "second.factor", "second.seen"]
    np.testing.assert_array_equal(net.shift.data, [1, 1])
    with pytest.raises(ArgumentError, match="shift: expected shape"):
        net.load_state_dict({"shift": np.ones(3)}, strict=False)


# -- conversion and copies -------------------------------------------------------------------


def test_to_converts_in_place_and_leaves_integers():
    net = Net()
    net.second.factor = net.first.factor
    net(rk.tensor([1.0, 2.0])).sum().backward()
    before = list(net.parameters())
    assert net.to(np.float64) is net
    assert all(a is b for a, b in zip(before, net.parameters(), strict=True))
    assert {param.dtype.name for param in net.parameters()} == {"float64"}
    assert {param.grad.dtype.name for param in net.parameters()} == {"float64"}
    assert net.first.seen.dtype == np.int64
    assert net.first.cache.dtype == np.float64
    assert net(rk.tensor(np.ones(2))).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.int64, np.float16, "complex64", "cpu"])
def test_to_refuses_other_dtypes(dtype):
    with pytest.raises(DTypeError, match="dtype: expected"):
        Net().to(dtype)


def test_copies_have_what_stands_in_slots():
    class Slotted(Scale):
        __slots__ = ("gain",)

    net = Slotted()
    object.__setattr__(net, "gain", 2.0)
    for copied in (copy.copy(net), copy.deepcopy(net)):
        assert copied.gain == 2.0
        assert list(copied.state_dict()) == list(net.state_dict())


def test_a_shallow_copy_shares_tensors_but_registers_for_itself():
    net = Scale()
    copied = copy.copy(net)
    assert copied.factor is net.factor
    copied.extra = Parameter(np.zeros(1))
    del copied.seen
    assert list(copied.state_dict()) == ["factor", "extra"]
    assert list(net.state_dict()) == ["factor", "seen"]


@pytest.mark.parametrize("make", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_is_independent_and_keeps_sharing(make):
    net = Net()
    net.second.factor = net.first.factor
    twin = make(net)
    twin.shift.data += 1
    twin.first.factor.data += 1
    np.testing.assert_array_equal(net.shift.data, [0, 0])
    np.testing.assert_array_equal(net.first.factor.data, [1, 1])
    assert twin.second.factor is twin.first.factor
    assert isinstance(twin.shift, Parameter)
    assert names(twin.named_parameters()) == ["shift", "first.factor"]


# -- printing --------------------------------------------------------------------------------


def test_a_frozen_module_cannot_be_written_to():
    net = Net()
    view = net.shift.data[:]
    given = net.state_dict()
    assert net.freeze() is net
    view[:] = 5  # of the array that it had before
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, given[name])
    for tensor in (*net.parameters(), *net.buffers()):
        with pytest.raises(ValueError, match="read-only"):
            tensor.data[...] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            tensor.data.flags.writeable = True
    with pytest.raises(ArgumentError, match=r"shift: it is read-only: call unfreeze\(\) first"):
        net.load_state_dict(given)
    with pytest.raises(ArgumentError, match="unfreeze"):
        rk.nn.init.ones_(net.shift)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, given[name])


def test_freezing_again_and_ending_it():
    net = Net()
    net.second.factor = net.first.factor
    net.second.requires_grad_(False)
    held = dict(net.named_parameters())
    frozen = {name: tensor.data for name, tensor in net.freeze().named_parameters()}
    assert {name: tensor.data for name, tensor in net.freeze().named_parameters()} == frozen
    net.unfreeze()
    assert dict(net.named_parameters()) == held
    assert not net.first.factor.requires_grad
    assert net.shift.requires_grad
    net.first.factor.data[...] = 7
    assert net.second.factor.data[0] == 7
    assert frozen["first.factor"][0] == 1
    net.load_state_dict(net.state_dict())
    arrays = [tensor.data for tensor in net.parameters()]
    assert all(a is b.data for a, b in zip(arrays, net.unfreeze().parameters(), strict=True))


@pytest.mark.parametrize(
    "convert",
    [
        copy.deepcopy,
        lambda net: pickle.loads(pickle.dumps(net, 4)),
        lambda net: pickle.loads(pickle.dumps(net, 5)),
        lambda net: net.to("float64"),
        lambda net: net.to("float32"),
    ],
)
def test_what_is_frozen_stays_frozen(convert):
    net = Net()
    net.second.factor = net.first.factor
    net.register_buffer("count", rk.tensor([3]))
    net.first.factor.grad = rk.ones(2)
    given = net.state_dict()
    other = convert(net.freeze())
    for tensor in (*other.parameters(), *other.buffers()):
        with pytest.raises(ValueError, match="WRITEABLE"):
            tensor.data.flags.writeable = True
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, given[name])
    with pytest.raises(ArgumentError, match="unfreeze"):
        other.load_state_dict(given)
    assert other.second.factor is other.first.factor
    if other.first.factor.grad is not None:
        other.first.factor.grad.data += 1
    other.unfreeze().shift.data += 1
    assert not np.array_equal(other.shift.data, given["shift"])


def test_frozen_modules_copy_save_and_convert():
    net = Net().freeze()
    for copied in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), net.to("float64")):
        copied.unfreeze().shift.data[...] = 3
    assert net.shift.dtype == np.float64
    assert net.state_dict()["shift"].flags.writeable


def test_repr():
    assert repr(Scale()) == "Scale(2)"
    assert repr(Net()) == "Net(\n  (first): Scale(2)\n  (second): Scale(2)\n)"

    class Outer(Net):
        def extra_repr(self):
            return "outer"

    outer = Outer()
    outer.third = Net()
    assert repr(outer) == (
        "Outer(\n  outer\n  (first): Scale(2)\n  (second): Scale(2)\n"
        "  (third): Net(\n    (first): Scale(2)\n    (second): Scale(2)\n  )\n)"
    )


@pytest.mark.parametrize("value", [None, 3, [("weight", 1)]])
def test_a_state_dict_that_is_no_mapping_is_refused_by_name(value):
    with pytest.raises(ArgumentError, match=r"^state_dict: expected a mapping of names to arrays"):
        nn.Linear(2, 2).load_state_dict(value)


def test_hooks_see_and_replace_what_goes_in_and_comes_out():
    model, seen = Net(), []
    x = rk.tensor(np.array([1.0, 3.0], np.float32))
    plain = model(x).numpy()
    before = model.second.register_forward_pre_hook(lambda module, args: args[0] * 10)
    after = model.second.register_forward_hook(lambda module, args, y: seen.append((args, y)))
    last = model.register_forward_hook(lambda module, args, y: -y)
    np.testing.assert_array_equal(model(x).numpy(), -10 * plain)
    ((args, y),) = seen
    np.testing.assert_array_equal(args[0].numpy(), [10, 30])
    np.testing.assert_array_equal(y.numpy(), 10 * plain)
    before.remove()
    last.remove()
    np.testing.assert_array_equal(model(x).numpy(), plain)
    assert len(seen) == 2
    after.remove()
    after.remove()
    np.testing.assert_array_equal(model(x).numpy(), plain)
    assert len(seen) == 2
    with pytest.raises(TypeError, match="hook: expected a function, got int"):
        model.register_forward_hook(3)


def test_a_hook_may_take_itself_away_and_a_copy_has_hooks_of_its_own():
    model, calls = Scale(), []
    handle = model.register_forward_hook(lambda *_: (calls.append(1), handle.remove())[1])
    twin = copy.copy(model)
    model(rk.ones(2))
    model(rk.ones(2))
    assert calls == [1]
    twin(rk.ones(2))
    assert calls == [1, 1]
    assert copy.deepcopy(model)(rk.ones(2)).shape == (2,)


def test_walks_that_do_not_go_below():
    net = Net()
    assert names(net.named_parameters("net", recurse=False)) == ["net.shift"]
    assert list(net.parameters(recurse=False)) == [net.shift]
    assert not list(net.buffers(recurse=False))
    assert names(net.first.named_buffers(recurse=False)) == ["seen", "cache"]


def test_a_device_is_refused_with_the_reason():
    for device in ("cpu", "cuda:0"):
        with pytest.raises(DTypeError, match=f"got '{device}'; everything is on the CPU"):
            Net().to(device)


def test_double_and_float():
    net = Net()
    assert net.double() is net
    assert net.shift.dtype == np.float64
    assert net.float().first.factor.dtype == np.float32


def test_a_property_says_itself_what_becomes_of_a_parameter_or_module():
    class Model(Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)

        @property
        def weight(self):
            return self.inner.weight

        @weight.setter
        def weight(self, value):
            self.inner.weight = value

        @property
        def first(self):
            return self.inner

    model, weight = Model(), Parameter(np.full((2, 2), 3.0))
    model.weight = weight
    assert model.weight is model.inner.weight is weight
    assert [name for name, _ in model.named_parameters()] == ["inner.weight", "inner.bias"]
    with pytest.raises(AttributeError):
        model.first = nn.Linear(2, 2)
    assert [name for name, _ in model.named_modules()] == ["", "inner"]


def test_layers_change_places_by_each_others_arrays():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 3))
    first, second = (layer.state_dict() for layer in model)
    model.load_state_dict({
        f"{1 - place}.{name}": parameter
        for place, layer in enumerate(model)
        for name, parameter in layer.named_parameters()
    })
    for name in ("weight", "bias"):
        np.testing.assert_array_equal(getattr(model[0], name).data, second[name])
        np.testing.assert_array_equal(getattr(model[1], name).data, first[name])
