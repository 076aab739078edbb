"""Memory budgets: on both paths, segments have the bits of the whole."""

import gc
import tracemalloc
import warnings

import numpy as np
import pytest
from recurrent_contract import (
    FUSED,
    VARIANTS,
    WAYS,
    Case,
    assert_close,
    assert_same_bits,
    check_native_equals_tape,
    forward,
    forward_backward,
    function_of_everything,
    make_ragged,
)

import rnnkit as rk
from rnnkit import nn, ops
from rnnkit.backend import dispatch
from rnnkit.cells import Cell
from rnnkit.errors import GraphError
from rnnkit.module import Parameter
from rnnkit.recurrent import checkpoint, run_layer
from rnnkit.recurrent.memory import MemoryBudgetWarning
from rnnkit.recurrent.program import hoisted

EACH_WAY = pytest.mark.parametrize("way", ["plain", *WAYS])


@pytest.fixture(autouse=True)
def _least_memory_is_meant():
    dispatch._decisions.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MemoryBudgetWarning)
        yield


def layer_of(way, case):
    return make_ragged(case, **WAYS.get(way, {}))


def in_pieces(monkeypatch, steps):
    """Has the tape cut into segments of so many steps, whatever the budget."""
    monkeypatch.setattr(checkpoint, "segment_of", lambda pieces, budget: steps)


@pytest.fixture
def on_the_tape():
    """Runs cells there that could be programs, too, whose segments are not those of `in_pieces`."""
    with rk.backend("python"):
        yield
    assert segments_run()


@pytest.fixture
def short_blocks(monkeypatch):
    """Has programs form sums over steps two by two: segments are whole blocks of these."""
    monkeypatch.setattr(hoisted, "SHORTEST_BLOCK", 2)
    monkeypatch.setattr(hoisted, "ROWS_OF_BLOCK", (2, 2))


def segments_run():
    return [decision for decision in rk.why() if "segments of" in decision.reason]


@EACH_WAY
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_any_budget_on_the_native_path(native, short_blocks, name, options, way):
    """Directions and dtypes take turns."""
    directions = 1 + ([*WAYS, "plain"].index(way) + VARIANTS.index((name, options))) % 2
    dtype = "float32" if directions == 1 else "float64"
    batch_first = name != "lstm"
    case = Case(name, options, (12, 5, 4, 9), directions, dtype, batch_first=batch_first)
    layer = layer_of(way, case)
    expected = forward_backward(layer, "native")
    for budget in (1, 4000, 10_000, 20_000, 10**9):
        actual = forward_backward(layer.with_(memory=budget), "native")
        assert_same_bits(actual, expected)
    keeps_nothing = name == "rnn" and (
        layer.call.get("return_sequences", True) or layer.call.get("return_steps", False)
    )
    assert bool(segments_run()) != (keeps_nothing or way == "no row has a step")


@EACH_WAY
@pytest.mark.parametrize("batch_first", [False, True])
def test_what_is_computed_before_the_loop_in_blocks(native, short_blocks, batch_first, way):
    sizes, options = (7, 4, 3, 5), {"timed": True}
    layer = layer_of(way, Case("phased_lstm", options, sizes, 2, batch_first=batch_first))
    check_native_equals_tape(layer)
    expected = forward_backward(layer, "native")
    for memory, steps in ((1, 2), (70_000, 4)):  # segments of one block, and of two
        assert_same_bits(forward_backward(layer.with_(memory=memory), "native"), expected)
        assert way == "no row has a step" or f"segments of {steps} steps" in rk.why()[-1].reason


@EACH_WAY
@pytest.mark.parametrize(("name", "options"), FUSED)
def test_any_segment_on_the_tape(monkeypatch, name, options, way):
    number = [*WAYS, "plain"].index(way)
    case = Case(
        name, options, (7, 5, 4, 3), 2 - number % 2,
        ("float32", "float64")[number % 3 == 0], batch_first=number % 4 > 1,
    )  # fmt: skip
    layer = layer_of(way, case)
    expected = forward_backward(layer, "python")
    for steps in (1, 2, 3, 7):
        in_pieces(monkeypatch, steps)
        actual = forward_backward(layer.with_(memory=1), "python")
        assert_same_bits(actual, expected)
        assert bool(segments_run()) != (way == "no row has a step")


@EACH_WAY
def test_a_budget_on_the_tape_is_kept_to_by_segments(way):
    case = Case("gru", {}, (12, 5, 4, 9), 2, "float32")
    layer = layer_of(way, case)
    expected = forward_backward(layer, "python")
    lengths = set()
    for budget in (1, 60_000, 150_000, 10**9):
        assert_same_bits(forward_backward(layer.with_(memory=budget), "python"), expected)
        lengths.add(rk.why(1)[0].reason)
    assert len(lengths) == (1 if way == "no row has a step" else 4)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_gradients_of_some_outputs_and_some_inputs(path, short_blocks, name, options):
    """Ways take turns."""
    number = VARIANTS.index((name, options))
    way = ("plain", "lengths, reset_state, last only, steps")[number % 2]
    layer = layer_of(way, Case(name, options, (9, 3, 4, 3), 2))
    short = layer.with_(memory=1)
    for used in [[each] for each in layer.outputs]:
        expected = forward_backward(layer, path, used=used)
        assert_same_bits(forward_backward(short, path, used=used), expected)
    for wanted in [[each] for each in (*layer.inputs, *layer.weights())]:
        expected = forward_backward(layer, path, wanted=wanted)
        assert_same_bits(forward_backward(short, path, wanted=wanted), expected)


@EACH_WAY
def test_a_retained_graph_gives_the_same_gradients_again(path, way):
    T = 30 if path == "native" else 9  # segments have several steps
    layer = layer_of(way, Case("lstm", {}, (T, 3, 4, 3), 2, "float32"))
    expected = forward_backward(layer, path)
    inputs = {name: rk.tensor(a, requires_grad=True) for name, a in layer.inputs.items()}
    outputs = layer.with_(memory=1).run(inputs)
    sources = inputs | layer.weights()
    d_outputs = [rk.tensor(layer.d_outputs[f"d_{name}"]) for name in layer.outputs]
    everything = list(outputs.values()), list(sources.values()), d_outputs
    for retain in (True, True, False):
        found = rk.grad(*everything, retain_graph=retain, allow_unused=True)
        for name, gradient in zip(sources, found, strict=True):
            array = expected[f"d_{name}"]
            assert gradient is None or gradient.numpy().tobytes() == array.tobytes(), name
            assert gradient is not None or not array.any()
    if way != "no row has a step" or path == "python":
        with pytest.raises(GraphError, match="retain_graph"):
            rk.grad(*everything, allow_unused=True)


@pytest.mark.parametrize("way", ["plain", "lengths, reset"])
def test_inference_does_not_cut_the_tape(path, way):
    layer = layer_of(way, Case("gru", {}, (9, 3, 4, 3)))
    expected = forward(layer, path)
    assert_same_bits(forward(layer.with_(memory=1), path), expected)
    assert not segments_run()


@pytest.mark.parametrize("way", ["plain", "lengths, reset_state, last only, steps"])
@pytest.mark.parametrize(("name", "options"), FUSED)
def test_gradients_of_gradients(path, short_blocks, name, options, way):
    layer = layer_of(way, Case(name, options, (4, 2, 1, 2))).with_(memory=1)
    run, inputs = function_of_everything(layer)
    assert rk.gradgradcheck(run, inputs, atol=1e-7, rtol=1e-5, fast_mode=True)
    assert any("create_graph" in decision.reason for decision in rk.why())


@pytest.mark.parametrize("way", ["lengths, reset", "last only", "steps"])
def test_a_gradient_that_is_differentiated_has_the_bits_of_the_whole_tape(way):
    layer = layer_of(way, Case("gru", {}, (6, 3, 4, 3), 2))

    def second(memory):
        x = rk.tensor(layer.inputs["x"], requires_grad=True)
        h = rk.tensor(layer.inputs["h0"], requires_grad=True)
        with rk.backend("python"):
            outputs = layer.with_(memory=memory).run({"x": x, "h0": h})
            loss = sum(each.square().sum() for each in outputs.values())
            wanted = {"x": x, "h0": h, **layer.weights()}
            first = rk.grad(loss, list(wanted.values()), create_graph=True)
            penalty = sum(each.square().sum() for each in first)
            gradients = rk.grad(penalty, list(wanted.values()))
        return [
            {name: each.detach().numpy() for name, each in zip(wanted, found, strict=True)}
            for found in (first, gradients)
        ]

    (first, gradients), (expected, exact) = second(1), second("full")
    assert_same_bits(first, expected)
    assert_close(gradients, exact, 1e-11)


# ---- cells of all kinds


class Noisy(Cell):
    """Draws a mask for the whole run and noise for each step, the latter scaled by a parameter."""

    state_names = ("h", "trace")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.inner = nn.Linear(input_size + hidden_size, hidden_size, dtype="float64")
        self.spread = Parameter(np.linspace(0.1, 0.9, hidden_size))

    def draw(self, steps, batch):
        normal = rk.rng.generator().standard_normal
        mask = rk.tensor(normal((1, batch, self.hidden_size)) > 0)
        return mask.astype("float64"), rk.tensor(normal((steps, batch, 1))) * self.spread

    def step(self, x, state, mask, noise):
        h, trace = state
        h = self.inner(rk.cat([x, h * mask], 1)).tanh() + noise + h * 0.5
        trace = trace * 0.9 + h * self.spread + h * h
        return h * trace, (h, trace)


class Dropping(Cell):
    """Draws inside of its steps, from the library's generator; slices a parameter."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.weight = Parameter(np.random.default_rng(3).normal(size=(input_size, 2 * hidden_size)))

    def step(self, x, state):
        H = self.hidden_size
        x = ops.dropout(x, 0.4) if self.training else x
        h = (x @ self.weight[:, :H]).tanh() + (x @ self.weight[:, H:]).sigmoid() * state[0]
        return h, (h,)


class Delay(Cell):
    """States that are one step's own input, and a state that no step changes but every one reads.

    The output is that unchanged state every time: one tensor stands in many places.
    """

    state_names = ("h", "before", "constant")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.weight = Parameter(np.random.default_rng(4).normal(size=hidden_size))

    def step(self, x, state):
        h, before, constant = state
        h = (before * x * constant + h * self.weight + h.tanh() * constant).tanh()
        return constant, (h, x, constant)


class Twice(Cell):
    """One tensor under two names of states, and as the output; a second output would be its own."""

    state_names = ("h", "g")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.weight = Parameter(np.random.default_rng(5).normal(size=hidden_size))

    def step(self, x, state):
        h, g = state
        h = (h * self.weight + g.sigmoid() * x + h * g).tanh()
        return h, (h, h)


class Borrowing(Cell):
    """Computes from tensors that are no parameters: one with a history, one kept out of sight."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.raw = Parameter(np.random.default_rng(6).normal(size=(hidden_size, hidden_size)))
        hidden = rk.tensor(np.linspace(0.5, 1.5, hidden_size), requires_grad=True)
        self.hidden = [hidden]
        self.scale = lambda x: x * hidden

    def step(self, x, state):
        h = self.scale(x + state[0] @ self.weight).tanh() + state[0] * self.raw[0]
        return h * 2, (h,)


OWN_CELLS = {cell.__name__: cell for cell in (Noisy, Dropping, Delay, Twice, Borrowing)}


def run_own(cells, memory, steps, again=1, **call):
    """Outputs and gradients of a run, a use of the parameters behind it and one before it."""
    random = np.random.default_rng(8)
    names, D = cells[0].state_names, len(cells)
    x = rk.tensor(random.standard_normal((8, 3, 4)), requires_grad=True)
    state = [rk.tensor(random.standard_normal((D, 3, 4)), requires_grad=True) for _ in names]
    rk.manual_seed(5)
    for cell in cells:
        if isinstance(cell, Borrowing):
            cell.weight = cell.raw * 0.5
    leaves = [each for cell in cells for each in (*cell.parameters(), *getattr(cell, "hidden", ()))]
    outputs = []
    for _ in range(again):
        y, final, all_states = run_layer(
            cells, x, tuple(state), return_steps=True, memory=memory, **call
        )
        outputs += [y, *final, *all_states]
    after = rk.rng.get_state()
    penalty = sum((each * each * each).sum() for each in leaves)
    loss = penalty + sum((each * random.standard_normal(each.shape)).sum() for each in outputs)
    sources = [x, *state, *leaves]
    gradients = rk.grad(loss, sources)
    assert rk.rng.get_state() == after
    arrays = [each.detach().numpy() for each in (*outputs, *gradients)]
    return {str(i): array for i, array in enumerate(arrays)} | {
        "generator": np.array(str(after))
    }


@pytest.mark.parametrize(
    "call",
    [
        {},
        {"lengths": [3, 8, 0]},
        {"return_sequences": False, "reset": np.arange(24).reshape(8, 3) % 5 == 2},
        {"again": 2, "lengths": [8, 8, 5]},
    ],
    ids=["plain", "lengths", "last, reset", "twice"],
)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("name", OWN_CELLS)
def test_cells_of_ones_own(on_the_tape, monkeypatch, name, directions, call):
    """Also where a parameter has other uses before and behind: sums go on in the same order."""
    cells = tuple(OWN_CELLS[name](4, 4) for _ in range(directions))
    for cell in cells:
        cell.to("float64")
    expected = run_own(cells, "full", None, **call)
    for steps in (1, 3, 8):
        in_pieces(monkeypatch, steps)
        assert_same_bits(run_own(cells, 1, steps, **call), expected)


def test_one_cell_in_both_directions(on_the_tape, monkeypatch):
    cell = Delay(4, 4).to("float64")
    expected = run_own((cell, cell), "full", None)
    in_pieces(monkeypatch, 3)
    assert_same_bits(run_own((cell, cell), 1, 3), expected)


def test_what_was_changed_after_the_forward_pass_does_not_count(monkeypatch):
    """Recomputed as the run was: the mode, the attributes and the path of that time."""
    in_pieces(monkeypatch, 3)
    x = rk.tensor(np.random.default_rng(1).standard_normal((8, 3, 4)))
    found = []
    for change in (False, True):
        rk.manual_seed(2)
        cell = Dropping(4, 4)
        with rk.backend("python"):
            y, _ = run_layer((cell,), x, memory=1)
        weight = cell.weight
        if change:
            cell.eval()
            cell.weight = Parameter(np.zeros_like(weight.data))
        y.sum().backward()
        found.append({"d_weight": weight.grad.numpy()})
    assert_same_bits(*found)


def test_hooks_on_the_states_see_every_gradient_once(on_the_tape, monkeypatch):
    class Clipping(Cell):
        def step(self, x, state):
            h = (state[0] * 1.5 + x).tanh()
            for each, limit in ((state[0], 0.3), (h, 0.4)):
                if each.requires_grad:
                    each.register_hook(lambda d, limit=limit: d.clip(-limit, limit))
            return h * 1, (h,)

    x = np.random.default_rng(1).standard_normal((8, 3, 4)).astype(np.float32)

    def run(memory):
        leaf = rk.tensor(x, requires_grad=True)
        y, _ = run_layer((Clipping(4, 4),), leaf, memory=memory)
        y.sum().backward(retain_graph=True)
        first = leaf.grad.numpy().copy()
        leaf.grad = None
        y.sum().backward()
        return {"first": first, "second": leaf.grad.numpy()}

    expected = run("full")
    in_pieces(monkeypatch, 3)
    actual = run(1)
    assert_same_bits({"first": actual["first"]}, {"first": expected["first"]})
    assert_same_bits({"second": actual["second"]}, {"second": actual["first"]})


def test_a_tensor_that_only_some_steps_use_is_refused_by_name(on_the_tape, monkeypatch):
    extra = rk.tensor(np.ones(4, np.float32), requires_grad=True)

    class Late(Cell):
        def step(self, x, state):
            h = state[0] + x
            return (h * extra if h.numpy()[0, 0] > 2.5 else h), (h,)

    in_pieces(monkeypatch, 2)
    x = rk.ones(6, 1, 4).requires_grad_()
    y, _ = run_layer((Late(4, 4),), x, memory=1)
    with pytest.raises(GraphError, match=r"memory: Late .* shape \(4,\).* memory='full'"):
        y.sum().backward()


def test_nothing_is_recorded_where_nothing_requires_a_gradient():
    cell = Twice(4, 4)
    cell.requires_grad_(False)
    y, final = run_layer((cell,), rk.ones(8, 2, 4, dtype="float64"), memory=1)
    assert not any(each.requires_grad for each in (y, *final))
    assert not segments_run()


class Handing(Cell):
    """The input comes to the output three steps later, from state to state."""

    state_names = ("a", "b", "c", "d")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.weight = Parameter(np.ones(hidden_size))

    def step(self, x, state):
        a, b, c, d = state
        return a * 2, (b, c * self.weight, d * 1, x)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6])
@pytest.mark.parametrize(
    "call", [{}, {"return_sequences": False}, {"return_steps": True, "lengths": [1, 0]}]
)
def test_only_what_has_something_behind_it_requires_a_gradient(monkeypatch, steps, frozen, call):
    cell = Handing(4, 4)
    cell.requires_grad_(not frozen)
    x = rk.tensor(np.random.default_rng(1).standard_normal((steps, 2, 4)), requires_grad=True)
    found = []
    for memory in ("full", 1):
        if memory == 1:
            in_pieces(monkeypatch, 2)
        with rk.backend("python"):
            result = run_layer((cell,), x, memory=memory, **call)
        flat = [result[0], *result[1], *(result[2] if len(result) > 2 else ())]
        wanted = [x, *cell.parameters()][: 2 - frozen]
        gradients = rk.grad(
            sum((each * each).sum() for each in flat if each.requires_grad), wanted,
            allow_unused=True,
        ) if any(each.requires_grad for each in flat) else []
        found.append([
            [each.requires_grad for each in flat],
            [np.zeros(1) if each is None else each.numpy() for each in gradients],
        ])
    assert found[1][0] == found[0][0]
    for actual, expected in zip(found[1][1], found[0][1], strict=True):
        np.testing.assert_array_equal(actual, np.broadcast_to(expected, actual.shape))


def test_an_output_may_be_a_state_that_only_began_with_a_gradient(on_the_tape, monkeypatch):
    """Which rows of it restart, or end, is not looked at one by one: the state may need one."""

    class Parted(Cell):
        state_names = ("h", "c")

        def step(self, x, state):
            h = x * 2
            return h, (h, state[1] + x)

    begin = [rk.ones(1, 2, 4).requires_grad_() for _ in range(2)]
    reset = np.arange(12).reshape(6, 2) == 5
    found = []
    for memory in ("full", 1):
        if memory == 1:
            in_pieces(monkeypatch, 2)
        _, (_, c) = run_layer((Parted(4, 4),), rk.ones(6, 2, 4), begin, reset=reset, memory=memory)
        (d,) = rk.grad(c.sum(), begin[1:])
        found.append(d.numpy())
    np.testing.assert_array_equal(found[1], found[0])


@pytest.mark.parametrize("late", ["output", "state"])
def test_what_only_some_steps_compute_from_parameters_is_refused(on_the_tape, monkeypatch, late):
    """A gradient would be missing."""

    class Late(Cell):
        state_names = ("h", "c")

        def __init__(self, input_size, hidden_size):
            super().__init__(input_size, hidden_size)
            self.weight = Parameter(np.ones(4, np.float32))

        def step(self, x, state):
            h, c = state[0] + x, state[1] * 1
            other = self.weight[None] * 2 if 2.5 < h.numpy()[0, 0] < 3.5 else c * 1
            return (h, (h, other)) if late == "state" else (other, (h, c))

    in_pieces(monkeypatch, 2)
    _, (h, _) = run_layer((Late(4, 4),), rk.ones(6, 1, 4).requires_grad_(), memory=1)
    with pytest.raises(GraphError, match=r"memory: Late .* memory='full'"):
        h.sum().backward()


# ---- bytes


def held_by(run):
    """Bytes held while the results live, and at the peak of a backward pass."""
    run()[0].sum().backward()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        y, _ = run()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        y.sum().backward()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return held - before, peak - before


FUSED_KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@pytest.mark.parametrize("call", ["all", "last", "lengths", "layers"])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("name", FUSED_KINDS)
def test_a_fused_kernel_keeps_to_its_budget(native, name, directions, call):
    T, N, H, layers = 500, 16, 32, 1 + (call == "layers")
    module = FUSED_KINDS[name](8, H, layers, bidirectional=directions == 2)
    x = rk.tensor(np.random.default_rng(0).standard_normal((T, N, 8)).astype(np.float32))
    options = {"return_sequences": call != "last"}
    if call == "lengths":
        options["lengths"] = [300, 250, 0, 280] * 4

    def run():
        y, _ = module(x, **options)
        return y, None

    with rk.backend("native"):
        whole, _ = held_by(run)
        outputs = layers * T * N * directions * H * 4 if call != "last" else 0
        # So little that the states between segments count.
        module.memory = budget = (whole - outputs) // 8
        held, _ = held_by(run)
    if name == "rnn" and call != "last":
        budget = 0  # it keeps nothing beyond its outputs
    assert held - outputs <= 1.02 * budget + (layers * 16_000 if call != "lengths" else 30_000)
    # Nor is a budget left unused.
    assert call == "lengths" or held - outputs >= 0.9 * budget


@pytest.mark.parametrize("parts", [4, 8])
@pytest.mark.parametrize("options", [{"peephole": True}, {"recurrent_dropout": 0.2}], ids=str)
def test_a_program_keeps_to_its_budget(native, short_blocks, options, parts):
    T, N, H = 500, 16, 32
    module = nn.LSTM(8, H, **options)
    x = rk.tensor(np.random.default_rng(0).standard_normal((T, N, 8)).astype(np.float32))
    outputs = T * N * H * 4
    whole, _ = held_by(lambda: module(x))
    module.memory = budget = (whole - outputs) // parts
    held, peak = held_by(lambda: module(x))
    assert held <= outputs + budget
    # The gradient of the outputs comes as the sum gives it, and as the native side takes it.
    assert 0.8 * budget <= peak - 3 * outputs <= 1.05 * budget + 30_000


def test_both_directions_of_a_program_share_its_budget(native, short_blocks):
    """One goes back at a time: what a backward pass works in is there once."""
    T, N, H = 500, 16, 32
    x = rk.tensor(np.random.default_rng(0).standard_normal((T, N, 8)).astype(np.float32))
    module = nn.LSTM(8, H, peephole=True, bidirectional=True)
    outputs = T * N * 2 * H * 4
    whole, _ = held_by(lambda: module(x))
    module.memory = budget = int((whole - outputs) / 3.4)  # the last segment is nearly whole
    held, peak = held_by(lambda: module(x))
    assert held <= outputs + budget
    # The gradient of the outputs is there once: the native side takes half of it at a time.
    assert 0.9 * budget <= peak - 2 * outputs <= 1.05 * budget


@pytest.mark.parametrize("hidden", [8, 64])
def test_the_tape_keeps_to_its_budget(hidden):
    """As tracemalloc counts, with objects; besides outputs and gradients, of which a few live."""
    T, N = 48, 8
    cell = nn.LSTMCell(hidden, hidden)
    x = rk.tensor(np.random.default_rng(0).standard_normal((T, N, hidden)).astype(np.float32))
    with rk.backend("python"):
        whole, _ = held_by(lambda: run_layer((cell,), x))
        budget = whole // 6
        held, peak = held_by(lambda: run_layer((cell,), x, memory=budget))
    reason = segments_run()[-1].reason
    outputs = T * N * hidden * 4
    weights = sum(each.data.nbytes for each in cell.parameters())
    assert held <= outputs + budget / 2 + 60_000
    assert peak <= 1.25 * budget + 4 * outputs + 3 * weights + 60_000, reason
    # Nor is a budget left unused.
    segments = int(reason.partition("; ")[2].split()[0])
    assert segments <= 14


def test_the_least_memory_warns(path):
    warnings.simplefilter("error", MemoryBudgetWarning)
    layer = layer_of("lengths", Case("gru", {}, (12, 3, 4, 5)))
    with pytest.warns(MemoryBudgetWarning, match=r"memory: a budget of 1 bytes .* over \d+ steps"):
        forward_backward(layer.with_(memory=1), path)


def test_why_says_how_many_segments(path):
    layer = layer_of("plain", Case("gru", {}, (12, 3, 4, 5), dtype="float32"))
    forward_backward(layer.with_(memory=1), path)
    (decision,) = segments_run()
    again = "all but the last run" if path == "native" else "each computed"
    assert f"; 12 segments of 1 steps, {again} again for backward" in decision.reason
