"""Native passes over some of a run's steps: products before the loop, sums after, refusals."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from program_tables import (
    KINDS,
    ROW,
    H,
    K,
    N,
    T,
    a_program,
    a_run,
    instruction,
    make,
    native,
    of_rows,
    passes_of,
    plan_of,
)

I = K


def forward_program():
    """h' = p + h, shown as y; h' is kept."""
    return make(of_rows(
        [("sequence", 0), ("state", 0), ("kept", 0), ("output", 0)],
        [instruction("add", (2, 0), (0, 0), (1, 0)), instruction("copy", (3, 0), (2, 0))],
        "kept", (0, 0, ROW, 0, 0, 0), (H,), (H,),
    ))


def backward_program():
    """d_h = d_h' + d_y = d_p; what d_h and h' have in common is left to be summed."""
    return make(of_rows(
        [("sequence", 0), ("flowing", 0), ("flowed", 0), ("output", 0), ("summands", 0),
         ("kept", 0)],
        [instruction("add", (2, 0), (0, 0), (1, 0)), instruction("copy", (3, 0), (2, 0)),
         instruction("copy", (4, 0), (2, 0)), instruction("copy", (4, ROW), (5, 0))],
        "flowed", (0, 0, 0, 2 * ROW, ROW, 0), (H,), (H,),
    ))


def a_plan(**changes):
    arguments = {
        "program": forward_program(), "backward": backward_program(),
        "products": ((0, 0, True, 1, H),), "forward_sequences": (0,),
        "backward_sequences": (-1,), "backward_outputs": (0,), "sums": ((0, H, ROW, H),),
    }
    return plan_of(**{**arguments, **changes})


def passes(plan=None, **changes):
    return passes_of(a_plan() if plan is None else plan, **changes)


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


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("layout", ["time_first", "batch_first"])
def test_segments_of_whole_blocks_have_the_bits_of_one(layout, reverse):
    given, options = inputs(), {"layout": layout, "reverse": reverse}

    def rows_of(array, first, last):
        part = array[T - last : T - first] if reverse else array[first:last]
        return (part.swapaxes(0, 1) if layout == "batch_first" else part).reshape(-1, I)

    whole, back = passes(**options), backward_arguments(given)
    rows = {"rows": (rows_of(given["x"], 0, T),)}
    whole.forward(**{**forward_arguments(given), **rows})
    whole.backward(**{**back, **rows})
    run, parts = passes(**options), backward_arguments(given)
    between, outputs = np.zeros((N, H)), ((np.zeros((T, N, H)), "time_first"),)
    d_x = back["d_rows"][0].reshape((N, T, I) if layout == "batch_first" else (T, N, I))
    d_x = d_x.swapaxes(0, 1) if layout == "batch_first" else d_x
    flow = given["d_n"]
    for first, last, start in ((2, T, between), (0, 2, given["h_0"])):
        part = {"first": first, "count": last - first, "initial": (start,),
                "rows": (rows_of(given["x"], first, last),)}
        if first:
            run.forward(**{**forward_arguments(given), "first": 0, "count": first, "outputs":
                           outputs, "rows": (rows_of(given["x"], 0, first),),
                           "final": (between,)})
        run.forward(**{**forward_arguments(given), **part, "outputs": outputs})
        d_start, d_rows = np.zeros((N, H)), np.zeros(((last - first) * N, I))
        run.backward(**{**parts, **part, "d_final": (flow,), "d_initial": (d_start,),
                        "d_rows": (d_rows,), "add": first == 0})
        np.testing.assert_array_equal(d_rows, rows_of(d_x, first, last))
        flow = d_start
    np.testing.assert_array_equal(flow, back["d_initial"][0])
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


def moving_program():
    """``a_program``, of which nothing is kept."""
    program = a_program()
    program["bases"][3] = [KINDS.index("next"), 0]
    program["states"] = [[KINDS.index("next"), 0, H]]
    program["sizes"] = [0, ROW, 0, 0, ROW, 0]
    return make(program)


def looking_back():
    """d_h = d_h' * h, of a state that has to have been kept; a row sums its d_h'."""
    return make(of_rows(
        [("flowing", 0), ("flowed", 0), ("state", 0), ("sums", 0)],
        [instruction("mul", (1, 0), (0, 0), (2, 0)), instruction("add", (3, 0), (3, 0), (0, 0))],
        "flowed", (0, 0, 0, 0, ROW, ROW),
    ))


FAR = 1 << 31
NEXT = ((KINDS.index("next"), 0),)
NOTHING_KEPT = {"program": moving_program(), "kept_states": NEXT, "kept_size": 0}


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("kept", [{"program": make(a_program())}, NOTHING_KEPT],
                         ids=["states kept", "nothing kept"])
def test_states_move_on_in_place(kept, n_threads):
    """Of ragged rows too, one of them without steps, and of rows that restart from them."""
    reset = np.zeros((T, N), np.uint8)
    reset[[0, 2, 4], [0, 0, 1]] = True
    schedule = native.Schedule(T, N, np.array([3, 5, 0]), reset)
    run = passes_of(plan_of(**kept), schedule=schedule, layout="packed", n_threads=n_threads)
    apart, together = a_run(), a_run()
    (start,) = together["initial"]
    apart["restart"] = (apart["initial"][0].copy(),)
    together["restart"] = together["final"] = (start,)
    for arguments in (apart, together):
        run.forward(**arguments)
    np.testing.assert_array_equal(start, apart["final"][0])
    np.testing.assert_array_equal(together["outputs"][0][0], apart["outputs"][0][0])
    assert not np.array_equal(start[:H], apart["initial"][0][:H])
    np.testing.assert_array_equal(start[2 * H :], apart["initial"][0][2 * H :])


@pytest.mark.parametrize("kept", [{"program": make(a_program())}, NOTHING_KEPT],
                         ids=["states kept", "nothing kept"])
def test_pieces_of_a_run_have_the_bits_of_the_whole(kept):
    whole, parts = a_run(), a_run()
    passes_of(plan_of(**kept)).forward(**whole)
    run, state = passes_of(plan_of(**kept)), parts["initial"]
    for first, count in ((0, 1), (1, 3), (4, 1)):
        run.forward(**{**parts, "first": first, "count": count, "final": state})
    np.testing.assert_array_equal(parts["outputs"][0][0], whole["outputs"][0][0])
    np.testing.assert_array_equal(state[0], whole["final"][0])


def test_nothing_is_left_where_no_backward_pass_can_follow():
    given, wide = inputs(), 1 << 14
    alone = {"backward": None, "backward_sequences": (), "backward_outputs": (), "sums": ()}
    held = []
    for changes in ({}, alone):
        run = passes(a_plan(kept_size=wide, **changes))
        arguments = forward_arguments(given)
        tracemalloc.start()
        try:
            run.forward(**arguments)
            held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    there, nothing = held
    assert there - nothing > T * N * wide * 8 * 0.9


def test_a_row_sums_and_looks_back_at_what_was_kept():
    plan = plan_of(make(a_program()), backward=looking_back())
    run, there, row_sums = passes_of(plan), a_run(), np.ones(N * ROW)
    d_end, d_start = np.random.default_rng(2).normal(size=(N, H)), np.zeros((N, H))
    back = {
        **{name: there[name] for name in ("first", "count", "rows", "operands", "initial",
                                          "restart")},
        "invariants": (), "given": (), "outputs": (), "d_final": (d_end,),
        "d_initial": (d_start,), "d_restart": (), "row_sums": row_sums, "sums": (),
        "d_rows": (), "d_matrices": (), "d_biases": (), "add": False,
    }
    run.forward(**there)
    run.backward(**back)
    flow, total = d_end, np.ones((N, H))
    for h in (*there["outputs"][0][0][-2::-1], there["initial"][0].reshape(N, H)):
        total = total + flow
        flow = flow * h
    np.testing.assert_allclose(d_start, flow, rtol=1e-12)
    np.testing.assert_allclose(row_sums.reshape(N, ROW)[:, :H], total, rtol=1e-12)
    for value, message in ((None, "row_sums: missing"),
                           (np.zeros(N * ROW + 1), "row_sums: .*expected 48")):
        with pytest.raises(ValueError, match=message):
            run.backward(**{**back, "row_sums": value})


def test_another_plan_of_the_same_forward_pass_is_followed_back():
    """What is kept by the one is doubled by the backward program of the other."""
    given, forward = inputs(), forward_program()
    doubling = of_rows(
        [("flowing", 0), ("flowed", 0), ("output", 0), ("summands", 0), ("kept", 0)],
        [instruction("add", (1, 0), (0, 0), (0, 0)), instruction("copy", (2, 0), (0, 0)),
         instruction("copy", (3, 0), (4, 0))],
        "flowed", (0, 0, 0, ROW, ROW, 0), (), (H,),
    )
    plan = a_plan(program=forward)
    other = a_plan(program=forward, backward=make(doubling), backward_sequences=(),
                   sums=((0, H, 0, H),))
    run, there, back = passes(plan), forward_arguments(given), backward_arguments(given)
    run.forward(**there)
    run.follow(other)
    run.backward(**{**back, "given": ()})
    y = there["outputs"][0][0]
    np.testing.assert_array_equal(back["d_initial"][0], 2**T * given["d_n"])
    np.testing.assert_allclose(back["sums"][0], np.einsum("tnh,tnk->hk", y, y), rtol=1e-12)
    run.follow(plan)
    run.backward(**back)
    _, d_h = by_numpy(given, range(T))
    np.testing.assert_allclose(back["d_initial"][0], d_h[0], rtol=1e-12)


@pytest.mark.parametrize("changes", [
    {"program": forward_program()}, {"kept_size": 4 * ROW},
    {"kept_states": ((KINDS.index("kept"), 1),)}, {"products": ((0, 0, True, 1, H),) * 2},
], ids=lambda changes: next(iter(changes)))
def test_a_plan_of_another_forward_pass_is_not_followed(changes):
    forward = forward_program()
    run = passes(a_plan(program=forward))
    with pytest.raises(ValueError, match="plan: expected one of the same forward pass"):
        run.follow(a_plan(**{"program": forward, **changes}))
    with pytest.raises(TypeError, match="plan: expected a Plan"):
        run.follow(None)


def test_a_plan_whose_products_have_other_widths_is_not_followed():
    forward, product = forward_program(), (0, 0, True, 1, H)
    run = passes(a_plan(program=forward, products=(product, product)))
    with pytest.raises(ValueError, match="plan: expected one of the same forward pass"):
        run.follow(a_plan(program=forward, products=(product, (*product[:4], H + 1))))


# ---- packed weights

def test_weights_packed_by_the_first_run_serve_the_later_ones():
    program, arguments = make(a_program()), a_run()
    passes_of(plan_of(program)).forward(**arguments)
    expected = arguments["outputs"][0][0].copy()
    packed = native.Packed(program, "float64")
    for n_threads in (2, 2, 1):
        run = passes_of(plan_of(program), packed=packed, n_threads=n_threads)
        for _ in range(2):
            arguments["outputs"][0][0][...] = 0
            run.forward(**arguments)
            np.testing.assert_array_equal(arguments["outputs"][0][0], expected)
            # What is packed stays so, whatever becomes of the invariants.
            arguments["invariants"] = (np.zeros(K * H),)


def test_packed_weights_are_packed_anew_for_another_instruction_set(every_isa):
    program, arguments = make(a_program()), a_run()
    run = passes_of(plan_of(program), packed=native.Packed(program, "float64"))
    for _ in itertools.chain(every_isa(), every_isa()):
        expected = a_run()
        passes_of(plan_of(program)).forward(**expected)
        run.forward(**arguments)
        np.testing.assert_array_equal(arguments["outputs"][0][0], expected["outputs"][0][0])


def test_weights_packed_for_another_program_or_dtype_are_refused():
    program = make(a_program())
    for packed in (native.Packed(make(a_program()), "float64"), native.Packed(program, "float32")):
        with pytest.raises(ValueError, match="packed: expected the weights of this program"):
            passes_of(plan_of(program), packed=packed)
    with pytest.raises(TypeError, match="program: expected a Program"):
        native.Packed(None, "float64")
    with pytest.raises(TypeError, match="dtype"):
        native.Packed(program, "float16")


# ---- what is refused

WRONG_PLANS = [
    ("backward", forward_program(), "program is one of a forward pass"),
    ("program", backward_program(), "program is one of a backward pass"),
    ("kept_size", H - 1, "kept_size: expected at least 5"), ("kept_size", -1, "kept_size"),
    ("kept_size", FAR, "kept_size"), ("kept_states", (), "kept_states: expected 1"),
    ("kept_states", ((KINDS.index("kept"), ROW),), "kept_states 0: offset"),
    ("kept_states", ((KINDS.index("kept"), -1),), "kept_states 0: offset"),
    ("kept_states", ((KINDS.index("state"), 1),), "kept_states 0: offset"),
    ("kept_states", NEXT, "kept_states 0: offset"),
    ("kept_states", ((KINDS.index("temp"), 0),), "kept_states 0: base kind"),
    ("kept_states", ((),), "not enough values|unpack"),
    ("products", ((64, 0, True, 1, H),), "products 0: rows"),
    ("products", ((-1, 0, True, 1, H),), "products 0: rows"),
    ("products", ((0, 64, True, 1, H),), "products 0: matrix"),
    ("products", ((0, 0, True, 64, H),), "products 0: bias"),
    ("products", ((0, 0, True, 1, FAR),), "products 0: width"),
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
    ("backward_outputs", (), "backward_outputs: expected 1"),
    ("sums", ((0, H, 2 * ROW, H),), "sums 0: offset"), ("sums", ((0, 0, 0, H),), "sums 0: width"),
    ("sums", ((-1, H, 0, H),), "sums 0: offset"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG_PLANS)
def test_a_plan_that_does_not_fit_its_programs(name, value, message):
    with pytest.raises(ValueError, match=message):
        a_plan(**{name: value})


def test_a_state_that_was_not_kept():
    with pytest.raises(ValueError, match="kept_states 0: the program reads a state that was not"):
        plan_of(**NOTHING_KEPT, backward=looking_back())


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


@pytest.mark.parametrize("changes", [
    {"kept_size": FAR - 1}, {"products": ((0, 0, True, 1, H), (0, 0, True, 1, FAR - 1))},
    {"backward": make(of_rows([], [], "flowed", (0, 0, 0, FAR - 1, ROW, 0), (H,), (H,)))},
    {"backward": make(of_rows([], [], "flowed", (0, 0, 0, 2 * ROW, ROW, FAR - 1), (H,), (H,)))},
    {"backward": make(of_rows([], [], "flowed", (0, FAR - 1, 0, 2 * ROW, ROW, 0), (H,), (H,)))},
    {"backward": make(of_rows([], [], "flowed", (0, 0, 0, 2 * ROW, FAR - 1, 0), (H,), (H,)))},
])
def test_rows_too_wide_for_so_many(changes):
    passes(N=1 << 31)
    with pytest.raises(ValueError, match="sizes are too large"):
        passes(a_plan(**changes), N=1 << 31)


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
    ("rows", (np.zeros((2 * T * N, I))[::2],), "rows 0: not contiguous"),
    ("rows", (np.zeros(T * N * I),), "rows: expected 2 axes"),
    ("initial", (), "initial: expected 1"), ("initial", (None,), "initial 0: missing"),
    ("initial", (np.zeros((N, H + 1)),), "initial 0: .*expected 15"),
    ("restart", (None, None), "restart: expected 1"),
    ("restart", (np.zeros(1),), "restart 0: .*expected 15"),
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
    ("final", (np.zeros(N * H + 1),), "final 0: .*expected 15"),
]
WRONG_BACK = [
    ("given", (), "given: expected more than 0"),
    ("given", ((np.zeros((T - 1, N, H)), "time_first"),), "sequence 0: expected T=5"),
    ("outputs", ((np.zeros((T, N, H)), "time_first"),), "outputs: expected 0"),
    ("d_final", (), "d_final: expected 1"), ("d_initial", (), "d_initial: expected 1"),
    ("d_initial", (np.zeros(1),), "d_initial 0: .*expected 15"),
    ("d_final", (np.zeros(1),), "d_final 0: .*expected 15"),
    ("d_restart", (None, None), "d_restart: expected 1"),
    ("d_restart", (np.zeros(1),), "d_restart 0: .*expected 15"),
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


def placed(layout, *shape):
    return ((np.zeros(shape), layout),)


WRONG_ARRAYS = [
    ("invariants", (), "invariants: expected 1, got 0"),
    ("invariants", (None,), "invariant 0: missing"),
    ("invariants", (np.zeros(K * H + 1),), "invariant 0: .*expected 20"),
    ("invariants", (strided(K * H),), "invariant 0: not contiguous"),
    ("given", (), "given: expected more than 0"),
    ("given", ((None, "time_first"),), "sequence 0: missing"),
    ("given", placed("sideways", T, N, K), "no layout 'sideways'"),
    ("given", placed("time_first", T, N, K + 1), "sequence 0: expected 4 features"),
    ("given", ((strided(T, N, K), "time_first"),), "sequence 0: expected 4 features"),
    ("given", placed("time_first", T - 1, N, K), "sequence 0: expected T=5 N=3, got 4, 3"),
    ("given", placed("local_time_first", T - 1, N, K), "sequence 0: expected T=5"),
    ("given", placed("time_first", T, N + 1, K), "sequence 0: expected T=5 N=3, got 5, 4"),
    ("given", placed("shared", 0, N, K), "sequence 0: expected T=5"),
    ("given", placed("batch_first", T, N, K), "sequence 0: expected T=5"),
    ("given", placed("packed", T * N - 1, K), "sequence 0: expected 15 rows"),
    ("given", placed("time_first", T * N, K), "sequence 0: expected 3 axes"),
    ("outputs", ((None, "time_first"),), "output 0: missing"),
    ("outputs", placed("time_first", T - 1, N, H), "output 0: expected T=5"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG_ARRAYS)
def test_an_array_that_does_not_fit_is_named(name, value, message):
    with pytest.raises(ValueError, match=message):
        passes_of(plan_of(make(a_program()))).forward(**{**a_run(), name: value})


def test_strides_are_whole_elements():
    array = np.lib.stride_tricks.as_strided(
        np.zeros(2 * T * N * K), (T, N, K), (N * K * 8 + 4, K * 8, 8))
    with pytest.raises((TypeError, ValueError), match="sequence 0: "):
        passes_of(plan_of(make(a_program()))).forward(
            **{**a_run(), "given": ((array, "time_first"),)})


@pytest.mark.parametrize("name", ["outputs", "final"])
def test_a_read_only_result(name):
    arguments = a_run()
    (given,) = arguments[name]
    (given[0] if isinstance(given, tuple) else given).flags.writeable = False
    with pytest.raises(ValueError, match=r"read-only|writeable|writable"):
        passes_of(plan_of(make(a_program()))).forward(**arguments)


@pytest.mark.parametrize("name", ["rows", "operands", "invariants", "given", "outputs", "initial",
                                  "restart", "final"])
def test_nothing_in_place_of_a_tuple(name):
    given = inputs()
    with pytest.raises(TypeError):
        passes().forward(**{**forward_arguments(given), name: None})
    if name != "final":
        run = passes()
        run.forward(**forward_arguments(given))
        with pytest.raises(TypeError):
            run.backward(**{**backward_arguments(given), name: None})


@pytest.mark.parametrize("name", ["d_final", "d_initial", "d_restart", "sums", "d_rows",
                                  "d_matrices", "d_biases"])
def test_nothing_in_place_of_a_tuple_of_gradients(name):
    given = inputs()
    run = passes()
    run.forward(**forward_arguments(given))
    with pytest.raises(TypeError):
        run.backward(**{**backward_arguments(given), name: None})


@pytest.mark.parametrize("name", ["kept_states", "products", "forward_sequences",
                                  "backward_sequences", "backward_outputs", "sums"])
def test_a_plan_with_nothing_in_place_of_a_tuple(name):
    with pytest.raises(TypeError):
        a_plan(**{name: None})


@pytest.mark.parametrize("name", ["invariants", "given"])
def test_a_wrong_dtype_of_what_a_program_reads(name):
    with pytest.raises(TypeError, match="expected format"):
        passes_of(plan_of(make(a_program()))).forward(**{**a_run(), name: a_run("float32")[name]})


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
    for steps in ({"first": 1, "count": T - 1}, {"count": T - 1}):
        with pytest.raises(ValueError, match="no forward pass over steps"):
            run.backward(**{**back, **steps})
    # One that fails has written over what the one before has left.
    with pytest.raises(ValueError, match="final 0: missing"):
        run.forward(**{**forward_arguments(given), "final": (None,)})
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
