"""Native passes over some of a run's steps: products before the loop, sums after, refusals."""

from __future__ import annotations

import numpy as np
import pytest

native = pytest.importorskip("rnnkit.backend._native")

T, N, I, H = 5, 3, 4, 5
ROW = 16  # elements of a row of a record
OPS = native.program_ops()
KINDS = ("temp", "invariant", "sequence", "state", "kept", "summands", "wide", "output", "next",
         "flowing", "flowed", "sums")
WIDTHS = (2, 24, 6, 5, 4, 3)


def instruction(op, out, *inputs):
    """Operands are (base, offset), their last stride 1."""
    row = [OPS.index(op), 1, 1, H, *out, 0, 0, 1]
    for base, offset in inputs:
        row += [base, offset, 0, 0, 1]
    return row + [*out, 0, 0, 0] * (3 - len(inputs))


def program(kinds, instructions, state, sizes, sequences, outputs):
    tables = [[[KINDS.index(kind), index] for kind, index in kinds], instructions, [], [],
              [[0, len(instructions), 0, 0]], [[KINDS.index(state), 0, H]]]
    arrays = [np.array(table, np.int32).reshape(-1, width)
              for table, width in zip(tables, WIDTHS, strict=True)]
    return native.Program(*arrays, sizes, (), sequences, outputs)


def forward_program():
    """h' = p + h, shown as y; h' is kept."""
    return program(
        [("sequence", 0), ("state", 0), ("kept", 0), ("output", 0)],
        [instruction("add", (2, 0), (0, 0), (1, 0)), instruction("copy", (3, 0), (2, 0))],
        "kept", (0, 0, ROW, 0, 0, 0), (H,), (H,),
    )


def backward_program():
    """d_h = d_h' + d_y = d_p; what d_h and h' have in common is left to be summed."""
    return program(
        [("sequence", 0), ("flowing", 0), ("flowed", 0), ("output", 0), ("summands", 0),
         ("kept", 0)],
        [instruction("add", (2, 0), (0, 0), (1, 0)), instruction("copy", (3, 0), (2, 0)),
         instruction("copy", (4, 0), (2, 0)), instruction("copy", (4, ROW), (5, 0))],
        "flowed", (0, 0, 0, 2 * ROW, ROW, 0), (H,), (H,),
    )


KEPT = ((KINDS.index("kept"), 0),)


def a_plan(**changes):
    arguments = {
        "forward": forward_program(), "backward": backward_program(), "kept_states": KEPT,
        "kept_size": ROW, "products": ((0, 0, True, 1, H),), "forward_sequences": (0,),
        "backward_sequences": (-1,), "backward_outputs": (0,), "sums": ((0, H, ROW, H),),
    }
    return native.Plan(**{**arguments, **changes})


def passes(plan=None, **changes):
    arguments = {
        "plan": a_plan() if plan is None else plan, "dtype": "float64", "n_threads": 2, "T": T,
        "N": N, "schedule": None, "reverse": False, "layout": "time_first", "block": 2,
    }
    return native.Passes(**{**arguments, **changes})


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=(T, N, I)), "W": rng.normal(size=(H, I)), "b": rng.normal(size=H),
        "h_0": rng.normal(size=(N, H)), "d_y": rng.normal(size=(T, N, H)),
        "d_n": rng.normal(size=(N, H)),
    }


def forward_arguments(given):
    return {
        "first": 0, "count": T, "rows": (given["x"].reshape(T * N, I),),
        "operands": (given["W"], given["b"]), "invariants": (), "given": (),
        "outputs": ((np.zeros((T, N, H)), "time_first"),), "initial": (given["h_0"],),
        "restart": (), "final": (np.zeros((N, H)),),
    }


def backward_arguments(given):
    return {
        **{name: forward_arguments(given)[name]
           for name in ("first", "count", "rows", "operands", "invariants", "initial", "restart")},
        "given": ((given["d_y"], "time_first"),), "outputs": (), "d_final": (given["d_n"],),
        "d_initial": (np.zeros((N, H)),), "d_restart": (), "row_sums": None,
        "sums": (np.zeros((H, H)),), "d_rows": (np.zeros((T * N, I)),),
        "d_matrices": (np.zeros((H, I)),), "d_biases": (np.zeros(H),), "add": False,
    }


def by_numpy(given, steps):
    """y, d_h, by the steps in the order in which they are taken."""
    h, y = given["h_0"], np.zeros((T, N, H))
    for t in steps:
        h = h + given["x"][t] @ given["W"].T + given["b"]
        y[t] = h
    d_h, flow = np.zeros((T, N, H)), given["d_n"]
    for t in reversed(steps):
        flow = d_h[t] = flow + given["d_y"][t]
    return y, d_h


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("block", [1, 2, T, 100])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("layout", ["time_first", "batch_first"])
def test_products_and_sums(layout, reverse, block, n_threads):
    given = inputs()
    y, d_h = by_numpy(given, range(T)[::-1] if reverse else range(T))
    run = passes(layout=layout, reverse=reverse, block=block, n_threads=n_threads)
    there, back = forward_arguments(given), backward_arguments(given)

    def laid_out(array):
        return array.swapaxes(0, 1).copy() if layout == "batch_first" else array

    there["rows"] = back["rows"] = (laid_out(given["x"]).reshape(T * N, I),)
    run.forward(**there)
    np.testing.assert_allclose(there["outputs"][0][0], y, rtol=1e-12)
    np.testing.assert_allclose(there["final"][0], y[0 if reverse else -1], rtol=1e-12)
    run.backward(**back)
    np.testing.assert_allclose(back["d_initial"][0], d_h[-1 if reverse else 0], rtol=1e-12)
    d_x = laid_out(d_h @ given["W"]).reshape(T * N, I)
    np.testing.assert_allclose(back["d_rows"][0], d_x, rtol=1e-12)
    d_w = np.einsum("tnh,tni->hi", d_h, given["x"])
    np.testing.assert_allclose(back["d_matrices"][0], d_w, rtol=1e-12)
    np.testing.assert_allclose(back["d_biases"][0], d_h.sum((0, 1)), rtol=1e-12)
    np.testing.assert_allclose(back["sums"][0], np.einsum("tnh,tnk->hk", d_h, y), rtol=1e-12)
    before = {name: back[name][0].copy() for name in ("sums", "d_matrices", "d_biases")}
    run.backward(**{**back, "add": True})
    for name, array in before.items():
        np.testing.assert_allclose(back[name][0], 2 * array, rtol=1e-12)


def test_segments_of_whole_blocks_have_the_bits_of_one():
    given = inputs()
    whole, back = passes(), backward_arguments(given)
    whole.forward(**forward_arguments(given))
    whole.backward(**back)
    run, parts = passes(), backward_arguments(given)
    between, outputs = np.zeros((N, H)), ((np.zeros((T, N, H)), "time_first"),)
    d_rows = np.zeros((T, N, I))
    flow = given["d_n"]
    for first, last, start in ((2, T, between), (0, 2, given["h_0"])):
        part = {
            "first": first, "count": last - first, "initial": (start,),
            "rows": (given["x"][first:last].reshape(-1, I),),
        }
        if first:
            run.forward(**{**forward_arguments(given), "first": 0, "count": first, "outputs":
                           outputs, "rows": (given["x"][:first].reshape(-1, I),),
                           "final": (between,)})
        run.forward(**{**forward_arguments(given), **part, "outputs": outputs})
        d_start = np.zeros((N, H))
        run.backward(**{**parts, **part, "d_final": (flow,), "d_initial": (d_start,),
                        "d_rows": (d_rows[first:last].reshape(-1, I),), "add": first == 0})
        flow = d_start
    np.testing.assert_array_equal(flow, back["d_initial"][0])
    np.testing.assert_array_equal(d_rows.reshape(-1, I), back["d_rows"][0])
    for name in ("sums", "d_matrices", "d_biases"):
        np.testing.assert_array_equal(parts[name][0], back[name][0])


def test_a_ragged_batch_comes_packed():
    given, lengths = inputs(), np.array([2, 5, 3])
    schedule = native.Schedule(T, N, lengths, None)
    with pytest.raises(ValueError, match="layout: expected packed"):
        passes(schedule=schedule)
    order = np.argsort(-lengths, kind="stable")
    places = [(t, n) for t in range(T) for n in order if t < lengths[n]]
    rows = np.array([given["x"][place] for place in places])
    run, there, back = passes(schedule=schedule, layout="packed"), *(
        make(given) for make in (forward_arguments, backward_arguments)
    )
    there["rows"] = back["rows"] = (rows,)
    back["d_rows"] = (np.zeros_like(rows),)
    run.forward(**there)
    run.backward(**back)
    d_w = np.zeros((H, I))
    for n, length in enumerate(lengths):
        np.testing.assert_allclose(there["final"][0][n], given["h_0"][n] + (
            given["x"][:length, n] @ given["W"].T + given["b"]).sum(0), rtol=1e-12)
        flow = given["d_n"][n]
        for t in range(length)[::-1]:
            flow = flow + given["d_y"][t, n]
            d_w += np.outer(flow, given["x"][t, n])
            np.testing.assert_allclose(
                back["d_rows"][0][places.index((t, n))], flow @ given["W"], rtol=1e-12)
    np.testing.assert_allclose(back["d_matrices"][0], d_w, rtol=1e-12)


FAR = 1 << 31
WRONG_PLANS = [
    ("backward", forward_program(), "program is one of a forward pass"),
    ("forward", backward_program(), "program is one of a backward pass"),
    ("kept_size", H - 1, "kept_size: expected at least 5"), ("kept_size", -1, "kept_size"),
    ("kept_size", FAR, "kept_size"), ("kept_states", (), "kept_states: expected 1"),
    ("kept_states", ((KINDS.index("kept"), ROW),), "kept_states 0: offset"),
    ("products", ((64, 0, True, 1, H),), "products 0: rows"),
    ("products", ((-1, 0, True, 1, H),), "products 0: rows"),
    ("products", ((0, -1, True, 1, H),), "products 0: matrix"),
    ("products", ((0, 0, True, -2, H),), "products 0: bias"),
    ("products", ((0, 0, True, 1, 0),), "products 0: width"),
    ("products", ((0, 0, True, 1, H + 1),), "forward_sequences 0: expected a width of 5"),
    ("products", ((0, 0, True, 1, H),) * 65, "products: expected 0 to 64"),
    ("products", (), "forward_sequences 0: expected -1 to -1"),
    ("forward_sequences", (), "forward_sequences: expected 1"),
    ("forward_sequences", (1,), "forward_sequences 0"),
    ("backward_sequences", (0, 0), "backward_sequences: expected 1"),
    ("backward_outputs", (-2,), "backward_outputs 0"),
    ("sums", ((0, H, 2 * ROW, H),), "sums 0: offset"), ("sums", ((0, 0, 0, H),), "sums 0: width"),
    ("sums", ((-1, H, 0, H),), "sums 0: offset"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG_PLANS)
def test_a_plan_that_does_not_fit_its_programs(name, value, message):
    with pytest.raises(ValueError, match=message):
        a_plan(**{name: value})


WRONG_RUNS = [
    ("T", 0, "sizes must be positive"), ("N", -1, "sizes must be positive"),
    ("block", 0, "sizes must be positive"), ("N", 1 << 60, "too large"),
    ("layout", "sideways", "no layout 'sideways'"),
    ("schedule", native.Schedule(T + 1, N, None, None), "schedule: expected T=5"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG_RUNS)
def test_sizes_of_a_run(name, value, message):
    with pytest.raises(ValueError, match=message):
        passes(**{name: value})


def test_there_is_a_plan_and_a_dtype():
    with pytest.raises(TypeError, match="plan"):
        native.Passes(None, "float64", 1, T, N, None, False, "packed", 1)
    with pytest.raises(TypeError, match="dtype"):
        passes(dtype="float16")
    with pytest.raises(TypeError, match="forward"):
        native.Plan(None, None, (), 0, (), (), (), (), ())


def strided(*shape):
    return np.zeros((*shape[:-1], 2 * shape[-1]))[..., ::2]


WRONG_SHARED = [
    ("first", -1, "first, count"), ("first", 1, "first, count"), ("count", 0, "first, count"),
    ("count", T + 1, "first, count"), ("first", 1 << 62, "first, count"),
    ("rows", (), "rows 0: missing"), ("rows", (None,), "rows 0: missing"),
    ("rows", (np.zeros((T * N - 1, I)),), "rows 0: expected 15 rows, got 14"),
    ("rows", (strided(T * N, I),), "rows 0: not contiguous"),
    ("initial", (), "initial: expected 1"), ("initial", (None,), "initial 0: missing"),
    ("initial", (np.zeros((N, H + 1)),), "initial 0: .*expected 15"),
    ("restart", (None, None), "restart: expected 1"),
    ("invariants", (np.zeros(1),), "invariants: expected 0"),
]
WRONG_THERE = [
    ("rows", (np.zeros((T * N, I + 1)),), r"operands 0: expected \(5, 5\), got \(5, 4\)"),
    ("operands", (), "operands: expected more than 0"),
    ("operands", (np.zeros((I, H)), np.zeros(H)), r"operands 0: expected \(5, 4\)"),
    ("operands", (np.zeros((2 * H, 2 * I))[::2, ::2], np.zeros(H)), "neither axis is contiguous"),
    ("operands", (np.zeros((H, I)),), "operands: expected more than 1"),
    ("operands", (np.zeros((H, I)), None), "bias: missing"),
    ("operands", (np.zeros((H, I)), np.zeros(H + 1)), "bias: .*expected 5"),
    ("given", ((np.zeros((T, N, H)), "time_first"),), "given: expected 0"),
    ("outputs", (), "outputs: expected more than 0"),
    ("outputs", ((np.zeros((T, N, H)), "time_first"),) * 2, "outputs: expected 1"),
    ("outputs", ((np.zeros((T, N, H + 1)), "time_first"),), "output 0: expected 5 features"),
    ("final", (), "final: expected 1"), ("final", (None,), "final 0: missing"),
]
WRONG_BACK = [
    ("given", (), "given: expected more than 0"),
    ("given", ((np.zeros((T - 1, N, H)), "time_first"),), "sequence 0: expected T=5"),
    ("outputs", ((np.zeros((T, N, H)), "time_first"),), "outputs: expected 0"),
    ("d_final", (), "d_final: expected 1"), ("d_initial", (), "d_initial: expected 1"),
    ("d_initial", (np.zeros(1),), "d_initial 0: .*expected 15"),
    ("d_restart", (None, None), "d_restart: expected 1"),
    ("sums", (), "sums: expected 1"), ("sums", (None,), "sum: missing"),
    ("sums", (np.zeros((H, H + 1)),), "sum: .*expected 25"),
    ("d_rows", (np.zeros((T * N + 1, I)),), "d_rows 0: expected 15 rows"),
    ("d_rows", (np.zeros((T * N, I + 1)),), "operands 0: expected"),
    ("d_matrices", (), "d_matrices: expected 1"), ("d_biases", (), "d_biases: expected 1"),
    ("d_matrices", (np.zeros((H, I + 1)),), "d_matrix: .*expected 20"),
    ("d_biases", (np.zeros(1),), "d_bias: .*expected 5"),
]


@pytest.mark.parametrize(("name", "value", "message"), [*WRONG_SHARED, *WRONG_THERE])
def test_what_a_forward_pass_refuses(name, value, message):
    with pytest.raises(ValueError, match=message):
        passes().forward(**{**forward_arguments(inputs()), name: value})


@pytest.mark.parametrize(("name", "value", "message"), [*WRONG_SHARED, *WRONG_BACK])
def test_what_a_backward_pass_refuses(name, value, message):
    given = inputs()
    run = passes()
    run.forward(**forward_arguments(given))
    with pytest.raises(ValueError, match=message):
        run.backward(**{**backward_arguments(given), name: value})


@pytest.mark.parametrize("name", ["rows", "operands", "initial", "final", "outputs"])
def test_a_wrong_dtype(name):
    arguments = forward_arguments(inputs())
    wrong = tuple([
        (each[0].astype(np.float32), each[1]) if isinstance(each, tuple) else
        each.astype(np.float32) for each in arguments[name]
    ])
    with pytest.raises(TypeError, match="expected format"):
        passes().forward(**{**arguments, name: wrong})


def test_a_backward_pass_wants_the_forward_pass_over_its_steps():
    given = inputs()
    run, back = passes(), backward_arguments(given)
    with pytest.raises(ValueError, match="no forward pass over steps 0 to 4"):
        run.backward(**back)
    run.forward(**forward_arguments(given))
    run.forget()
    with pytest.raises(ValueError, match="no forward pass over steps 0 to 4"):
        run.backward(**back)
    without = a_plan(backward=None, backward_sequences=(), backward_outputs=(), sums=())
    run = passes(without)
    run.forward(**forward_arguments(given))
    with pytest.raises(ValueError, match="no backward program"):
        run.backward(**back)
