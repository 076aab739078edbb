"""The cells' equations, written out once more with NumPy, and their face as modules."""

import copy
import pickle

import numpy as np
import pytest
from cell_equations import BY_HAND

import rnnkit as rk
from rnnkit import nn
from rnnkit.cells import CELLS, Cell, GatedCell, GRUCell, LSTMCell, RNNCell
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

VARIANTS = [
    pytest.param(name, options, id="-".join([name, *(f"{k}={v}" for k, v in options.items())]))
    for name, cell in CELLS.items()
    if cell.kernel is not None
    for options in cell.variants
]


def make(name, options, **more):
    cell = CELLS[name](5, 7, dtype="float64", **options, **more)
    random = np.random.default_rng(3)
    state = tuple(random.standard_normal((4, *row)) for row in cell.state_shapes)
    return cell, random.standard_normal((4, 5)), state


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_step_follows_the_equations(name, options):
    cell, x, state = make(name, options)
    y, new = cell.step(rk.tensor(x), tuple(rk.tensor(value) for value in state))
    expected = BY_HAND[name](cell, x, *state)
    for actual, value in zip(new, expected, strict=True):
        np.testing.assert_allclose(actual.detach().numpy(), value, rtol=1e-13, atol=1e-15)
    np.testing.assert_array_equal(y.detach().numpy(), new[0].detach().numpy())


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_without_bias_is_with_a_bias_of_zero(name, options):
    bare, x, state = make(name, options, bias=False)
    assert bare.bias_ih is None
    assert bare.bias_hh is None
    cell, _, _ = make(name, options)
    zeros = {key: np.zeros_like(value) for key, value in cell.state_dict().items()}
    cell.load_state_dict(zeros | bare.state_dict())
    arguments = rk.tensor(x), tuple(rk.tensor(value) for value in state)
    for actual, expected in zip(bare.step(*arguments)[1], cell.step(*arguments)[1], strict=True):
        np.testing.assert_array_equal(actual.detach().numpy(), expected.detach().numpy())


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_called_like_a_pytorch_cell(name, options):
    cell, x, state = make(name, options)
    given = state[0] if len(state) == 1 else state
    result = cell(x, given)
    assert isinstance(result, rk.Tensor if len(state) == 1 else tuple)
    states = result if isinstance(result, tuple) else (result,)
    _, expected = cell.step(rk.tensor(x), tuple(rk.tensor(value) for value in state))
    row = cell(x[0], given[0] if len(state) == 1 else tuple(value[0] for value in state))
    rows = row if isinstance(row, tuple) else (row,)
    for actual, value, single in zip(states, expected, rows, strict=True):
        np.testing.assert_array_equal(actual.detach().numpy(), value.detach().numpy())
        np.testing.assert_allclose(
            single.detach().numpy(), value.detach().numpy()[0], rtol=1e-13, atol=1e-15
        )
    from_zero = cell(x)
    zeros = [np.zeros_like(value) for value in state]
    explicit = cell(x, zeros[0] if len(state) == 1 else tuple(zeros))
    for a, b in zip(cell.unpack_state(from_zero), cell.unpack_state(explicit), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_shapes_names_and_range_of_the_parameters(name, options):
    cell = CELLS[name](30, 25, **options)
    G = {"rnn": 1, "gru": 3, "lstm": 3 if options.get("coupled") else 4}[name]
    P = options.get("proj_size", 0)
    expected = {
        "weight_ih": (G * 25, 30),
        "weight_hh": (G * 25, P or 25),
        "bias_ih": (G * 25,),
        "bias_hh": (G * 25,),
    }
    expected |= {"weight_hr": (P, 25)} if P else {}
    if options.get("peephole"):
        expected |= {} if options.get("coupled") else {"weight_ci": (25,)}
        expected |= {"weight_cf": (25,), "weight_co": (25,)}
    found = {key: value.shape for key, value in cell.state_dict().items()}
    assert list(found.items()) == list(expected.items())
    for parameter in cell.parameters():
        values = parameter.data
        assert values.dtype == np.float32
        assert np.abs(values).max() <= 0.2
        assert values.max() > 0.1
        assert values.min() < -0.1
        assert len(np.unique(values)) > 0.9 * values.size


def test_the_gate_counts_are_those_of_pytorch():
    assert (RNNCell.gates, GRUCell.gates, LSTMCell.gates) == (1, 3, 4)
    for kind in (RNNCell, GRUCell, LSTMCell):
        assert len(kind.gate_names) == kind.gates


def test_one_seed_gives_one_cell_in_either_precision():
    cells = []
    for dtype in (np.float32, np.float64):
        rk.manual_seed(4)
        cells.append(LSTMCell(3, 4, dtype=dtype))
    for single, double in zip(*(cell.parameters() for cell in cells), strict=True):
        np.testing.assert_array_equal(single.data, double.data.astype(np.float32))


def test_repr_reads_like_pytorch():
    assert repr(LSTMCell(3, 4)) == "LSTMCell(3, 4)"
    assert repr(RNNCell(3, 4, nonlinearity="relu")) == "RNNCell(3, 4, nonlinearity=relu)"
    assert repr(GRUCell(3, 4, bias=False)) == "GRUCell(3, 4, bias=False)"
    assert repr(GRUCell(3, 4, reset_after=False)) == "GRUCell(3, 4, reset_after=False)"
    every = LSTMCell(
        3, 4, False, proj_size=2, peephole=True, coupled=True, cell_clip=3, zoneout=(0.1, 0.2)
    )
    assert repr(every) == (
        "LSTMCell(3, 4, proj_size=2, bias=False, zoneout=(0.1, 0.2), peephole=True, coupled=True, "
        "cell_clip=3.0)"
    )
    noisy = RNNCell(3, 4, recurrent_dropout=0.25, zoneout=0.5)
    assert repr(noisy) == "RNNCell(3, 4, recurrent_dropout=0.25, zoneout=0.5)"


def test_wrong_options():
    for make_cell, kind, message in [
        (lambda: LSTMCell(0, 4), ArgumentError, "input_size: expected at least 1, got 0"),
        (lambda: LSTMCell(3, -1), ArgumentError, "hidden_size: expected at least 1, got -1"),
        (lambda: LSTMCell(3.0, 4), ArgumentError, r"input_size: expected an int, got 3.0 \(float"),
        (lambda: LSTMCell(True, 4), ArgumentError, "input_size: expected an int, got True"),
        (lambda: LSTMCell(3, 4, 1), ArgumentError, r"bias: expected a bool, got 1 \(int\)"),
        (lambda: GRUCell(3, 4, reset_after=0), ArgumentError, "reset_after: expected a bool"),
        (lambda: RNNCell(3, 4, nonlinearity="relU"), ArgumentError, "'tanh' or 'relu', got 'relU'"),
        (lambda: LSTMCell(3, "4"), ArgumentError, "hidden_size: expected an int, got '4'"),
        (lambda: LSTMCell(3, 4, proj_size=4), ArgumentError, "less than hidden_size, .* 4, got 4"),
        (lambda: LSTMCell(3, 4, proj_size=-1), ArgumentError, "proj_size: .* from 0 on, got -1"),
        (lambda: LSTMCell(3, 4, proj_size=False), ArgumentError, "proj_size: expected an int"),
        (lambda: LSTMCell(3, 4, peephole="yes"), ArgumentError, "peephole: expected a bool"),
        (lambda: LSTMCell(3, 4, coupled=1), ArgumentError, "coupled: expected a bool"),
        (lambda: LSTMCell(3, 4, cell_clip=0), ArgumentError, "cell_clip: expected a number > 0"),
        (lambda: LSTMCell(3, 4, cell_clip=np.nan), ArgumentError, "cell_clip: expected a number"),
        (lambda: LSTMCell(3, 4, cell_clip=True), ArgumentError, "cell_clip: expected a number"),
        (lambda: LSTMCell(3, 4, zoneout=1.5), ArgumentError, "zoneout: .* from 0 to 1, got 1.5"),
        (lambda: LSTMCell(3, 4, zoneout=(0.1,)), ArgumentError, r"zoneout: .* \(h, c\), got"),
        (lambda: GRUCell(3, 4, zoneout=(0.1, 2)), ArgumentError, r"zoneout: .* of \(h\), got"),
        (lambda: LSTMCell(3, 4, zoneout=(0.1, -1)), ArgumentError, "zoneout: .* 0 to 1, got -1"),
        (lambda: RNNCell(3, 4, recurrent_dropout="0"), ArgumentError, "recurrent_dropout: .* '0'"),
        (lambda: LSTMCell(3, 4, dtype=np.float16), DTypeError, "float32 or float64, got float16"),
        (lambda: LSTMCell(3, 4, dtype=int), DTypeError, "dtype: expected .* got int64"),
        (lambda: LSTMCell(3, 4, dtype="real"), DTypeError, "dtype: expected .* got 'real'"),
    ]:
        with pytest.raises(kind, match=message):
            make_cell()


def f32(*shape):
    return np.ones(shape, np.float32)


def test_wrong_calls():
    cell = LSTMCell(3, 4)
    h = f32(2, 4)
    for x, state, kind, message in [
        (f32(5, 2, 3), None, ShapeError, r"x: expected axes \(I,\) or \(N, I\), got .*\(5, 2, 3\)"),
        (f32(2, 4), None, ShapeError, r"x: expected 3 features in the last axis, got .*\(2, 4\)"),
        (np.ones((2, 3)), None, DTypeError, "x: expected float32 .* got float64"),
        (np.ones((2, 3), int), None, DTypeError, "x: expected float32 .* got int64"),
        (f32(2, 3), h, ArgumentError, r"state: LSTMCell expects \(h, c\), got one tensor"),
        (f32(2, 3), (h,), ArgumentError, r"state: LSTMCell expects \(h, c\), got 1 of them"),
        (f32(2, 3), (h, f32(1, 4)), ShapeError, r"c: expected shape \(2, 4\), got \(1, 4\)"),
        (f32(3), (f32(4), h), ShapeError, r"c: expected shape \(4,\), got \(2, 4\)"),
    ]:
        with pytest.raises(kind, match=message):
            cell(x, state)
    with pytest.raises(ArgumentError, match=r"state: GRUCell expects \(h\), got 2 of them"):
        GRUCell(3, 4)(f32(2, 3), (h, h))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_renew_makes_another_cell_of_the_kind(name, options):
    cell = CELLS[name](3, 4, False, **options).to(np.float64)
    other = cell.renew(6)
    assert type(other) is type(cell)
    assert (other.input_size, other.hidden_size, other.bias) == (6, 4, False)
    assert other.dtype == np.float64
    assert all(getattr(other, key) == value for key, value in options.items())
    assert not np.array_equal(other.weight_hh.data, cell.weight_hh.data)
    by_keyword = CELLS[name](input_size=3, hidden_size=4, **options).renew(5)
    assert by_keyword.weight_ih.shape[1] == 5


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda cell: pickle.loads(pickle.dumps(cell))])
def test_copies_are_independent_and_can_be_renewed(copy_of):
    cell = GRUCell(3, 4, reset_after=False)
    twin = copy_of(cell)
    x = f32(2, 3)
    np.testing.assert_array_equal(twin(x).detach().numpy(), cell(x).detach().numpy())
    twin.weight_ih.data[...] = 0
    assert cell.weight_ih.data.any()
    assert not twin.renew(5).reset_after


def test_other_equations_leave_the_kernel():
    class Peaky(LSTMCell):
        def step(self, x, state):
            return super().step(2 * x, state)

    class Normed(GRUCell):
        def from_hidden(self, h):
            return super().from_hidden(h) / 2

    class Named(LSTMCell):
        """Neither of the equations is touched."""

    class Own(LSTMCell):
        kernel = "own"

        def step(self, x, state):
            return super().step(x, state)

    class Zoned(RNNCell):
        def zone_out(self, old, new, drawn):
            return old

    class Halved(LSTMCell):
        def _next_c(self, c, *gates):
            return super()._next_c(c, *gates) / 2

    kinds = (Peaky, Normed, Named, Own, Zoned, Halved)
    expected = [None, None, "lstm", "own", None, None]
    assert [kind.kernel for kind in kinds] == expected
    assert [kind(3, 4).kernel for kind in kinds] == expected
    assert Named.gate_names == LSTMCell.gate_names


@pytest.mark.parametrize("kind", [RNNCell, GRUCell, LSTMCell])
@pytest.mark.parametrize("name", [
    "step", "draw", "gate_values", "from_input", "from_hidden", "drop_hidden", "zone_out", "_next_c"
])  # fmt: skip
def test_each_part_of_the_equations_leaves_the_kernel(kind, name):
    of_the_kind = getattr(kind, name, None)
    other = type("Other", (kind,), {name: lambda self, *given: of_the_kind(self, *given)})
    assert other.kernel is other(3, 4).kernel is None
    cell = kind(3, 4)
    assert cell.kernel == kind.kernel is not None
    setattr(cell, name, lambda *given: of_the_kind(cell, *given))
    assert cell.kernel is None


def test_what_a_cell_draws_in_evaluation_is_used_on_every_path():
    class Always(GRUCell):
        """Drops in evaluation as in training (Gal and Ghahramani 2016, Monte Carlo dropout)."""

        def draw(self, steps, batch):
            return (rk.dropout(rk.ones(1, batch, self.hidden_size), self.recurrent_dropout),)

    module = nn.Recurrent(Always(3, 16, recurrent_dropout=0.5)).eval()
    x = np.ones((5, 2, 3), np.float32)
    found = []
    for path in ("auto", "python"):
        rk.manual_seed(1)
        with rk.backend(path):
            found.append(module(x)[0].data)
    np.testing.assert_allclose(*found, atol=1e-6)
    assert np.abs(found[0] - module(x)[0].data).max() > 1e-3


def test_an_object_with_an_equation_of_its_own_leaves_the_kernel():
    cell = GRUCell(3, 4)
    x = np.ones((5, 2, 3), np.float32)
    before = nn.Recurrent(cell)(x)[0].data
    cell.from_hidden = lambda h: GRUCell.from_hidden(cell, 2 * h)
    after = nn.Recurrent(cell)(x)[0].data
    with rk.backend("python"):
        np.testing.assert_allclose(after, nn.Recurrent(cell)(x)[0].data, atol=1e-6)
    assert np.abs(after - before).max() > 1e-3


def test_equations_of_a_mixin_leave_the_kernel():
    class Doubling:
        def step(self, x, state):
            return super().step(2 * x, state)

    class Halving:
        def from_hidden(self, h):
            return super().from_hidden(h) / 2

    class Doubled(Doubling, LSTMCell):
        """All of it is in the first base."""

    class Halved(Halving, GRUCell):
        """All of it is in the first base."""

    class Unheard(LSTMCell, Doubling):
        """The cell's own step comes first."""

    class Further(Halved):
        """Nothing of its own."""

    kinds = (Doubled, Halved, Unheard, Further)
    assert [kind.kernel for kind in kinds] == [None, None, "lstm", None]
    assert [kind.gate_names for kind in kinds] == [
        (), GRUCell.gate_names, LSTMCell.gate_names, GRUCell.gate_names
    ]
    assert Doubled(3, 4, coupled=True).gate_names == ()


def test_a_cell_must_define_its_step():
    class Blank(Cell):
        """No step."""

    with pytest.raises(NotImplementedError, match="Blank must define step"):
        Blank(3, 4)(f32(2, 3))


def test_the_registry_holds_the_shipped_cells():
    assert CELLS["lstm"] is LSTMCell
    assert CELLS["gru"] is GRUCell
    assert CELLS["rnn"] is RNNCell
    assert all(issubclass(cell, Cell) for cell in CELLS.values())
    assert GatedCell not in CELLS.values()
