"""Steps that are no programs: the tape runs them, ``why`` says what stands in the way and where."""

import inspect
import re

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn, ops
from rnnkit.autograd.primitive import PRIMITIVES
from rnnkit.errors import ArgumentError, BackendError, DTypeError, ShapeError
from rnnkit.recurrent import run_layer

pytestmark = pytest.mark.usefixtures("native")

H = 4
FILE = r"test_program_refusals\.py"


class Written(rk.Cell):
    """A cell of which a test gives the step."""

    def __init__(self, step):
        super().__init__(H, H)
        self.given = step
        self.W = nn.Parameter(np.random.default_rng(0).standard_normal((H, H)).astype(np.float32))
        self.counter, self.seen = 0, []
        self.pair = {"a": [rk.tensor(np.float32(2.0))]}
        self.small = nn.Parameter(np.array([0.0, 0.1, -0.1], np.float32))
        self.register_buffer("times", rk.tensor(np.array(3)))
        self.register_buffer("order", rk.tensor(np.array([2, 2, 0, 1])))
        self.row, self.bound, self.of_function = [self.small], self._bound, lambda: self.times

    def _bound(self):
        return self.W

    def step(self, x, state):
        return self.given(self, x, state)


def of_hidden(f):
    """A step that gives one thing as the output and the state."""

    def step(cell, x, state):
        h = f(cell, x, state[0])
        return h, (h,)

    return step


def counted(cell, x):
    cell.counter += 1
    return x * cell.counter


def remembered(cell, x):
    cell.last = x
    return x


def listed(cell, x):
    cell.seen.append(1)
    return x


def counted_in_a_buffer(cell, x):
    cell.times = cell.times + 1
    return x * cell.times.astype("float32")


def counted_in_place(cell, x):
    cell.times.data[...] += 1
    return x


def halved(cell, x):
    cell.pair["a"][0].data[...] *= 0.5
    return x * cell.pair["a"][0]


def drawn(cell, x):
    return x + rk.randn(H)


# what it is -> the step, and what is said of it after the file and the line
VALUES = "the numbers of a tensor are read"
REFUSED = {
    "a branch": (lambda c, x, h: x if x.sum() > 0 else h, "sum mixes rows"),
    "a branch on any": (lambda c, x, h: x if ops.any(x > 0) else h, "any mixes rows"),
    "a branch of the loop": (lambda c, x, h: ops.stack([r * 2 for r in x]), "split mixes rows"),
    "float()": (lambda c, x, h: x * float(x[:, 0].sum()), "sum mixes rows"),
    "item()": (lambda c, x, h: x * h.max(-1).detach()[0].item(), "getitem mixes rows"),
    "numpy()": (lambda c, x, h: rk.tensor(np.tanh(x.detach().numpy())), VALUES),
    "np.asarray": (lambda c, x, h: rk.tensor(np.asarray(x.detach()) + 1), VALUES),
    "data": (lambda c, x, h: rk.tensor(2 * x.data), VALUES),
    "tolist()": (lambda c, x, h: x * h.detach().tolist()[0][0], VALUES),
    "text": (lambda c, x, h: x * len(str(x)), VALUES),
    "a running sum of the batch": (lambda c, x, h: ops.cumsum(x, 0), "cumsum mixes rows"),
    "a running product of the batch": (lambda c, x, h: ops.cumprod(x, 0), "cumprod mixes rows"),
    "einsum over the batch": (lambda c, x, h: x * ops.einsum("ni,ni->i", x, h), "einsum mixes"),
    "einsum of a batch that is not first": (
        lambda c, x, h: ops.einsum("ni,nj->ijn", x, h).sum((0, 1)).unsqueeze(1) + x,
        "einsum mixes rows",
    ),
    "a matrix for each row": (
        lambda c, x, h: (
            x.reshape(-1, 2, 2) @ ops.stack([c.W[:2, :2] * i for i in range(5)])
        ).reshape(-1, H),
        "matmul broadcasts rows against an axis before the batch",
    ),
    "argmax of all": (lambda c, x, h: x * ops.argmax(x).astype("float32"), "argmax mixes rows"),
    "an order of rows": (lambda c, x, h: ops.sort(x, 0).values, "argsort mixes rows"),
    "an order of many": (
        lambda c, x, h: x + ops.sort(ops.cat([x] * 33, 1)).values[:, :H],
        "argsort of so many elements .* 17424 comparisons, more than 16384",
    ),
    "indices that are counted": (
        lambda c, x, h: h + x.gather(1, ((x > 0) & (h > x)).sum(1, keepdims=True) * 0),
        "gather by indices that are computed cannot be part of a program",
    ),
    "one_hot of a count": (
        lambda c, x, h: x * ops.one_hot((x > 9).sum(1), H), "one_hot of ids that are computed",
    ),
    "rows by their numbers, and a slice": (
        lambda c, x, h: x * x[np.arange(len(x)), 1:2], "getitem mixes rows",
    ),
    "rows by their numbers, and one element": (
        lambda c, x, h: x * x[np.arange(len(x)), 2].unsqueeze(1), "getitem mixes rows",
    ),
    "dropout": (
        lambda c, x, h: ops.dropout(x, 0.5), r"dropout cannot be part of a program: .* draw\(\)",
    ),
    "indices that move the batch": (
        lambda c, x, h: x * x.reshape(-1, 2, 1, 2)[:, [0, 1], :, [1, 0]].sum(0),
        "getitem mixes rows",
    ),
    "rows on a later axis": (
        lambda c, x, h: x * h[:, None].transpose(0, 1)[0],
        "permute mixes rows .* they stay on the first axis",
    ),
    "indices of rows": (
        lambda c, x, h: x + h[..., [0, 1], [0, 0]].sum(), "getitem mixes rows",
    ),
    "other indices for each row": (
        lambda c, x, h: x * ops.gather(h, 1, np.arange(len(x))[:, None] % H), "getitem mixes rows",
    ),
    "indices of the batch": (lambda c, x, h: x[[0] * len(x)] + h, "getitem mixes rows"),
    "an index of the batch": (lambda c, x, h: x + h[0], "getitem mixes rows"),
    "rows backwards": (lambda c, x, h: x + h[::-1], "getitem mixes rows"),
    "rows up to a number": (lambda c, x, h: x + h[:2000], "getitem mixes rows"),
    "the last rows": (lambda c, x, h: x + h[-2000:], "getitem mixes rows"),
    "a mean of the batch": (lambda c, x, h: x - x.mean(0), "mean mixes rows"),
    "a mean of all": (lambda c, x, h: x - x.mean(), "mean mixes rows"),
    "a maximum of all": (lambda c, x, h: x - x.max(), "max mixes rows"),
    "a softmax over the batch": (lambda c, x, h: ops.softmax(x, 0), "softmax mixes rows"),
    "a product over the batch": (lambda c, x, h: x @ (x.T @ h), "matmul mixes rows"),
    "a linear of all rows": (lambda c, x, h: ops.linear(x, h) @ h, "linear mixes rows"),
    "products of all rows": (lambda c, x, h: (x @ h.T) @ x, "matmul mixes rows"),
    "a flip of the batch": (lambda c, x, h: ops.flip(x, 0), "flip mixes rows"),
    "a sum of what is made for the batch": (
        lambda c, x, h: x + ops.ones_like(x).sum(0), "sum mixes rows",
    ),
    "a sum of parameters for the batch": (
        lambda c, x, h: x + (ops.zeros_like(x) + c.W[0]).sum(0), "sum mixes rows",
    ),
    "a product of what is made for the batch": (
        lambda c, x, h: x @ (ops.ones_like(x).T @ ops.ones_like(x)), "matmul mixes rows",
    ),
    "a number for each row": (
        lambda c, x, h: x * (1.0 + rk.tensor(np.ones((len(x), H), "f4").cumsum(0))),
        "that is not from the batch",
    ),
    "a product with every row": (
        lambda c, x, h: (x @ (h[:, :, None] * c.W)).sum(0), "matmul mixes rows",
    ),
    "the greatest of the batch": (
        lambda c, x, h: x * h.T.max(1, keepdims=True)[:1], "max mixes rows",
    ),
    "the batch twice": (lambda c, x, h: ops.cat([x, h], 0)[: len(x)], "cat mixes rows"),
    "the batch in another shape": (
        lambda c, x, h: x.reshape(H, -1).reshape(-1, H), "reshape mixes rows",
    ),
    "another dtype": (
        lambda c, x, h: x.astype("float64").astype("float32"), "astype from float32 to float64",
    ),
    "the size of the batch": (lambda c, x, h: x / x.shape[0], "another size of the batch"),
    "the length of the batch": (lambda c, x, h: x * len(x), "another size of the batch"),
    "numbers of a parameter": (
        lambda c, x, h: x * float(c.W.data[0, 0]), "other numbers in the cell's tensors",
    ),
    "a branch on a parameter": (
        lambda c, x, h: x * h if c.W.data.sum() > 0 else x + h, "other numbers in the cell's",
    ),
    "a branch on a small parameter": (
        lambda c, x, h: x * h if c.small.data[1] > 0 else x + h, "other numbers in the cell's",
    ),
    "a number of times": (
        lambda c, x, h: x * int(c.times.item()), "other numbers in the cell's tensors",
    ),
    "numbers of a parameter in a list": (lambda c, x, h: x * float(c.row[0].data[1]), VALUES),
    "numbers by a bound method": (lambda c, x, h: x * c.bound().numpy()[0, 0], VALUES),
    "a number by a function": (lambda c, x, h: x * int(c.of_function()), VALUES),
    "integers of a list": (
        lambda c, x, h: x + c.W[c.order][0], "other numbers in the cell's tensors",
    ),
    "a counter": (lambda c, x, h: counted(c, x), "the step changes attributes: counter"),
    "a memory": (lambda c, x, h: remembered(c, x), "the step changes attributes: last"),
    "a list": (lambda c, x, h: listed(c, x), "the step changes attributes: seen"),
    "a buffer": (
        lambda c, x, h: counted_in_a_buffer(c, x), "the step changes attributes: times",
    ),
    "a buffer's numbers": (
        lambda c, x, h: counted_in_place(c, x),
        r"the step cannot be traced: .*\.py:\d+: ValueError: output array is read-only",
    ),
    "numbers in a dict": (lambda c, x, h: halved(c, x), "the step changes attributes: pair"),
    "rows without elements": (
        lambda c, x, h: x + h[:, :0].sum(1, keepdims=True), "reduce_sum of rows without elements",
    ),
    "a product with nothing": (
        lambda c, x, h: h + ops.linear(x[:, :0], c.W[:, :0]), "product of rows without elements",
    ),
    "a drawing": (lambda c, x, h: drawn(c, x), "draws from the generator"),
}  # fmt: skip


def run(step, backend, seed=0):
    random = np.random.default_rng(seed)
    x = rk.tensor(random.standard_normal((3, 5, H)).astype(np.float32))
    cell = Written(step)
    rk.manual_seed(2)
    with rk.backend(backend), rk.no_grad():
        y, _ = run_layer((cell,), x)
    return cell, y.numpy()


@pytest.mark.parametrize("name", REFUSED)
def test_the_tape_takes_over_and_why_says_where(name):
    f, reason = REFUSED[name]
    step = of_hidden(f)
    _, expected = run(step, "python")
    cell, actual = run(step, "auto")
    np.testing.assert_array_equal(actual, expected)
    assert (cell.counter, len(cell.seen)) in ((0, 0), (3, 0), (0, 3))
    decision = [each for each in rk.why() if " layer " in each.op][-1]
    assert decision.path == "python"
    assert re.search(f"and no program: .*{reason}", decision.reason), decision.reason
    if name != "a drawing":
        line = re.search(FILE + r":(\d+)", decision.reason)
        assert line, decision.reason
        if "step" not in reason and "another" not in reason and "other" not in reason:
            lines, first = inspect.getsourcelines(f)
            assert first <= int(line[1]) < first + len(lines)
    with pytest.raises(BackendError, match=reason):
        run(step, "native")


class Wide(Written):
    """Of as many states as one likes, each with a row of some shape."""

    def __init__(self, step, states=1, row=(H,)):
        super().__init__(step)
        self.state_names = tuple([f"h{i}" for i in range(states)])
        self.row = row

    @property
    def state_shapes(self):
        return (self.row,) * len(self.state_names)


def of_many_products(cell, x, state):
    h = sum([ops.linear(x, cell.W * (1 + i)) for i in range(66)], state[0])
    return h, (h,)


TOO_MUCH = {
    "33 states": (lambda: Wide(lambda c, x, s: (x + s[32], (x, *s[:-1])), 33),
                  "more than a program can hold: states: expected at most 32, got 33"),
    "a state without elements": (lambda: Wide(lambda c, x, s: (x, s), 1, (0,)),
                                 "h0: a row has no elements"),
    "many products of the input": (lambda: Wide(of_many_products),
                                   "expected at most 64, got"),
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_no_program_can_hold_is_left_to_the_tape(name):
    make, reason = TOO_MUCH[name]
    cell = make()
    found = []
    for backend in ("python", "auto"):
        x = rk.tensor(np.random.default_rng(1).normal(size=(3, 5, H)).astype(np.float32))
        x.requires_grad_()
        with rk.backend(backend):
            y, _ = run_layer((cell,), x)
        decision = [each for each in rk.why() if " layer " in each.op][-1]
        assert decision.path == "python"
        found.append((y.numpy(), *[d.numpy() for d in rk.grad((y * y).sum(), [x])]))
    assert re.search(f"and no program: .*{reason}", decision.reason), decision.reason
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_array_equal(actual, expected)
    network = nn.Recurrent(cell)
    assert reason in str(network.program())
    assert network.stream(2)(np.ones((3, 2, H), np.float32)).shape == (3, 2, H)


def test_what_a_refused_step_has_put_into_the_cell_is_gone_again():
    class Keeping(Written):
        def __init__(self):
            super().__init__(None)
            self.cache, self.log, self.names = {"a": 1.0, "in": {}}, [[2]], {"a"}
            self.array = np.zeros(3)
            self.parts = [nn.Linear(H, H)]

        def step(self, x, state):
            self.cache["b"] = self.cache["a"] = self.cache["in"]["b"] = x
            self.log[0].append(x)
            self.log.clear()
            self.names.add("b")
            self.array[1] = 3.0
            self.parts[0].last = x
            return x, state

    cell = Keeping()
    inner = cell.log[0]
    for _ in range(2):
        assert "changes attributes: cache" in str(nn.Recurrent(cell).program())
        assert (cell.cache, cell.log, cell.names) == ({"a": 1.0, "in": {}}, [[2]], {"a"})
        assert cell.log[0] is inner
        assert not cell.array.any()
        assert not hasattr(cell.parts[0], "last")


def test_a_gradient_of_a_parameter_within_a_step_is_of_the_whole_batch():
    def learning(c, x, h):
        (d,) = rk.grad(x @ c.W, [c.W], [ops.ones_like(x)], create_graph=True, allow_unused=True)
        return x if d is None else x * d.sum()

    text = str(nn.Recurrent(Written(of_hidden(learning))).program())
    assert "matmul mixes rows of the batch" in text


def test_an_error_in_the_library_is_told_by_the_line_that_called_it():
    """Compiled modules, too, whose files have no whole paths."""
    wrong = nn.Linear(H, H, dtype="float64")
    text = str(nn.Recurrent(Written(of_hidden(lambda c, x, h: wrong(x) + h))).program())
    assert re.search(rf"cannot be traced: {FILE}:\d+: DTypeError", text), text


def test_a_rule_that_fails_is_no_matter_where_no_gradient_is_asked_for(monkeypatch):
    def rule(*_):
        raise ZeroDivisionError("no derivative today")

    monkeypatch.setattr(PRIMITIVES["expm1"], "rules", (rule,))
    step = of_hidden(lambda c, x, h: ops.expm1(x) + h)
    _, expected = run(step, "python")
    _, actual = run(step, "auto")
    np.testing.assert_array_equal(actual, expected)
    assert "gradients cannot be traced" in rk.why(1)[0].reason
    x = rk.tensor(np.ones((2, 3, H), np.float32), requires_grad=True)
    y, _ = run_layer((Written(step),), x)
    with pytest.raises(ZeroDivisionError, match="no derivative today"):
        y.sum().backward()


def test_what_was_refused_is_not_tried_again(monkeypatch):
    from rnnkit.recurrent.program import run as program

    tried = []

    class Noting(program.TracedStep):
        def __init__(self, cell):
            tried.append(cell)
            super().__init__(cell)

    monkeypatch.setattr(program, "TracedStep", Noting)
    cell = Written(of_hidden(lambda c, x, h: ops.cumsum(x, -1)))
    for _ in range(3):
        run_layer((cell,), np.zeros((2, 3, H), np.float32))
    assert len(tried) == 1


WRONG_RESULTS = {
    "a narrow output": (lambda c, x, s: (x[:, :2], (x,)), r"output: expected rows of shape \(4,\)"),
    "a narrow state": (lambda c, x, s: (x, (x[:, :2],)), r"h: expected rows of shape \(4,\)"),
    "truths as the output": (lambda c, x, s: (x > 0, s), "output: expected float32, got bool"),
    "numbers of truths": (
        lambda c, x, s: (x, ((x > s[0]).unsqueeze(2).sum(-1),)),
        "h: expected float32, got int64",
    ),
    "a state of another dtype": (
        lambda c, x, s: (x, (ops.zeros(x.shape, dtype="float64"),)),
        "h: expected float32, got float64",
    ),
    "one row for all": (lambda c, x, s: (c.W[0], s), r"output: expected rows, got shape \(4,\)"),
    "no states": (lambda c, x, s: (x, ()), "returns 0 states, expected 1"),
    "too many states": (lambda c, x, s: (x, (x, x)), "returns 2 states, expected 1"),
    "three results": (lambda c, x, s: (x, s, s), "its output and a tuple of states"),
    "a state alone": (lambda c, x, s: (x, x), "its output and a tuple of states"),
    "minus a truth": (lambda c, x, s: (x * -(x > 0), s), "neg of bool in a program of float32"),
    "a difference of truths": (lambda c, x, s: (x * ((x > 0) - (x < 0)), s), "sub of bool"),
    "nothing": (lambda c, x, s: None, "its output and a tuple of states"),
    "an array": (lambda c, x, s: (np.ones((5, H), np.float32), s), "output: expected a Tensor"),
    "an error": (lambda c, x, s: 1 / 0, FILE + r":\d+: ZeroDivisionError: division by zero"),
    "a key": (lambda c, x, s: {}["a"], FILE + r":\d+: KeyError"),
    "an assertion": (lambda c, x, s: [][x.shape[0]], FILE + r":\d+: IndexError"),
    "an index out of range": (
        lambda c, x, s: (x + s[0][:, H].reshape(-1, 1), s),
        FILE + r":\d+: getitem: index 4 is out of range for size 4",
    ),
    "an index before the first": (
        lambda c, x, s: (x + s[0][:, -9].reshape(-1, 1), s), "index -9 is out of range",
    ),
    "shapes": (lambda c, x, s: (x + c.W[:3, :3], s), FILE + ":.*"),
    "a batch of its own": (
        lambda c, x, s: (x + rk.tensor(np.ones((5, H), np.float32)), s), "not from the batch",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_RESULTS)
def test_wrong_results_are_refused_and_left_to_the_tape(name):
    step, reason = WRONG_RESULTS[name]
    with pytest.raises(BackendError, match=reason):
        run(step, "native")
    outcomes = []
    for backend in ("python", "auto"):
        try:
            outcomes.append(run(step, backend)[1].tobytes())
        except Exception as error:
            outcomes.append((type(error), str(error)))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("N", [2, H])
def test_what_is_not_one_row_for_each_of_the_batch_is_refused_on_the_tape(N):
    x = np.zeros((2, N, H), np.float32)
    for step, error, got in (
        (lambda c, x, s: (c.W[0], s), ShapeError, "output: expected shape .*, got"),
        (lambda c, x, s: (x[:1], s), ShapeError, "output: expected shape .*, got"),
        (lambda c, x, s: (x, (s[0][0],)), ShapeError, "h: expected shape .*, got"),
        (lambda c, x, s: (x, (s[0][:, 1:],)), ShapeError, "h: expected shape .*, got"),
        (lambda c, x, s: (x.numpy(), s), DTypeError, "output: expected a Tensor, got ndarray"),
    ):
        for call in (
            lambda cell: run_layer((cell,), x), lambda cell: run_layer((cell,), x, lengths=[1] * N),
            lambda cell: nn.Recurrent(cell).stream(N)(x[0]),
        ):
            with pytest.raises(error, match=f"step: Written: {got}"):
                call(Written(step))


@pytest.mark.parametrize("N", [1, 2, 5])
def test_a_state_alone_is_not_taken_apart_on_the_tape(N):
    x = np.zeros((2, N, H), np.float32)
    for step, got in (
        (lambda c, x, s: (x, x), "Tensor as states"), (lambda c, x, s: x, "Tensor"),
        (lambda c, x, s: (x, (x, x)), "2 states"), (lambda c, x, s: (x, s, x), "3 items"),
    ):
        message = rf"step: Written: expected the output and a tuple of states \(h,\), got {got}"
        for call in (
            lambda cell: run_layer((cell,), x), lambda cell: run_layer((cell,), x[:0]),
            lambda cell: cell(x[0]), lambda cell: nn.Recurrent(cell).stream(N)(x[0]),
        ):
            with pytest.raises(ArgumentError, match=message):
                call(Written(step))


def test_a_list_of_states_is_a_program_too():
    def step(cell, x, state):
        return [x + state[0], [x]]

    _, expected = run(step, "python")
    _, actual = run(step, "native")
    np.testing.assert_array_equal(actual, expected)


def test_a_step_that_only_tracing_fails_runs_on_the_tape():
    def step(cell, x, state):
        assert x.shape[0] < 100, "too many rows"
        return x, (x,)

    _, expected = run(step, "python")
    _, actual = run(step, "auto")
    np.testing.assert_array_equal(actual, expected)
    assert "AssertionError: too many rows" in rk.why(1)[0].reason


@pytest.mark.parametrize("of", ["step", "rule"])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, RecursionError, OSError])
def test_what_a_trace_meets_once_is_not_remembered(error, of, monkeypatch):
    errors = [error("just now")]
    (rule,) = PRIMITIVES["expm1"].rules

    def meet(where):
        if where == of and errors:
            raise errors.pop()

    def rule_that_meets(*args):
        meet("rule")
        return rule(*args)

    def step(c, x, h):
        meet("step")
        return ops.expm1(x) + h

    monkeypatch.setattr(PRIMITIVES["expm1"], "rules", (rule_that_meets,))
    x = rk.tensor(np.ones((2, 3, H), np.float32))
    cell = Written(of_hidden(step))
    if error in (MemoryError, KeyboardInterrupt):
        with pytest.raises(error, match="just now"):
            run_layer((cell,), x)
    else:
        run_layer((cell,), x)
        assert rk.why(1)[0].path == "python"
        assert f"{error.__name__}: just now" in rk.why(1)[0].reason
    run_layer((cell,), x)
    assert rk.why(1)[0].path == "program"


def test_zeros_made_for_the_batch_are_no_matter():
    def step(cell, x, state):
        h = ops.maximum(ops.zeros((x.shape[0], H)), x) + ops.zeros_like(x) + state[0]
        return ops.zeros((x.shape[0], H)), (h,)

    _, actual = run(step, "native")
    np.testing.assert_array_equal(actual, np.zeros((3, 5, H), np.float32))
    assert rk.why(1)[0].path == "program"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (lambda h: (), r"a layer over time \(RNN\) cannot be part of a program"),
        (lambda h: (h[None],), "getitem mixes rows of the batch: they stay on the first axis"),
    ],
)
def test_a_layer_over_time_within_a_step_is_refused_with_what_to_call(state, reason):
    layer = nn.RNN(H, H, batch_first=True)
    written = of_hidden(lambda c, x, h: layer((x + h)[:, None], *state(h))[0][:, 0])
    with pytest.raises(BackendError, match=rf"{FILE}:\d+: {reason}.* call its cell's step"):
        run(written, "native")
