"""The extension refuses by name what no program may hold; it never crashes."""

from __future__ import annotations

import ast
import copy
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
from program_tables import (
    ROW,
    SIZES,
    WIDTHS,
    H,
    K,
    N,
    a_program,
    a_run,
    make,
    native,
    passes_of,
    plan_of,
    tables_of,
)

STUBS = Path(native.__file__).with_name("_native.pyi")


def test_the_program_of_these_tests_runs():
    arguments = a_run()
    passes_of(plan_of(make(a_program()))).forward(**arguments)
    h = arguments["initial"][0].reshape(N, H)
    weight = arguments["invariants"][0].reshape(K, H)
    for x, y in zip(arguments["given"][0][0], arguments["outputs"][0][0], strict=True):
        h = np.tanh(x @ weight + h)
        np.testing.assert_allclose(y, h, rtol=1e-12)
    np.testing.assert_array_equal(arguments["final"][0].reshape(N, H), y)


def test_the_type_stubs_list_what_the_extension_has():
    stubs = {node.name for node in ast.parse(STUBS.read_text(encoding="utf-8")).body
             if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    inner = {"Arrays", "Buffers", "Left", "Loans", "Several", "Tables"}  # of calls, not for callers
    helpers = {"TableCheck", "check_count", "check_range", "check_stages", "operation_inputs",
               "rows_of_table"}
    public = {name for name in dir(native) if not name.startswith("_")} - inner - helpers
    assert public == stubs


def test_tables_are_copied():
    program = a_program()
    tables = tables_of(program)
    made = native.Program(*tables.values(), *[tuple(program[name]) for name in SIZES])
    for table in tables.values():
        table[...] = 1 << 30
    outputs = []
    for each in (made, make(program)):
        arguments = a_run()
        passes_of(plan_of(each)).forward(**arguments)
        outputs.append(arguments["outputs"][0][0])
    np.testing.assert_array_equal(*outputs)


FAR = 1 << 30
WRONG_NUMBERS = [
    # (table, row, column, number, what the message says)
    ("bases", 0, 0, 12, "bases 0: kind"), ("bases", 0, 0, -1, "bases 0: kind"),
    ("bases", 0, 1, 1, "bases 0: index"), ("bases", 2, 1, 1, "bases 2: index"),
    ("bases", 4, 1, 1, "bases 4: index"), ("bases", 5, 1, -1, "bases 5: index"),
    ("instructions", 0, 0, 999, "operation"), ("instructions", 0, 0, -1, "operation"),
    ("instructions", 0, 1, 0, "size"), ("instructions", 0, 3, -2, "size"),
    ("instructions", 0, 3, ROW + 1, "result"), ("instructions", 0, 1, FAR, "size of all axes"),
    ("instructions", 0, 4, 6, "base"), ("instructions", 0, 4, -1, "base"),
    ("instructions", 0, 4, 0, "writes to what is only read"),
    ("instructions", 0, 4, 2, "writes to what is only read"),
    ("instructions", 0, 4, 5, "writes to what is only read"),
    ("instructions", 0, 5, -1, "offset"), ("instructions", 0, 5, ROW - H + 1, "result"),
    ("instructions", 0, 8, 2, "last stride of the result"),
    ("instructions", 0, 9, 6, "base"), ("instructions", 0, 14, 6, "base"),
    ("instructions", 0, 19, 6, "base"), ("instructions", 0, 19, -1, "base"),
    ("instructions", 0, 10, FAR, "operand 0"), ("instructions", 0, 15, 1, "operand 1"),
    ("instructions", 0, 13, 2, "last stride"), ("instructions", 0, 13, -1, "last stride"),
    ("instructions", 2, 5, 1, "result"), ("instructions", 3, 12, 5, "operand 0"),
    ("instructions", 3, 12, -1, "operand 0"),
    ("products", 0, 0, 1, "weight"), ("products", 0, 0, -1, "weight"),
    ("products", 0, 2, 6, "base"), ("products", 0, 4, -1, "base"),
    ("products", 0, 3, 1, "input"), ("products", 0, 5, 1, "result"),
    ("products", 0, 3, -1, "offset"), ("products", 0, 4, 4, "result"),
    ("products", 0, 4, 2, "writes to what is only read"),
    ("weights", 0, 0, 1, "invariant"), ("weights", 0, 0, -1, "invariant"),
    ("weights", 0, 1, 0, "K"), ("weights", 0, 2, -1, "M"), ("weights", 0, 1, K + 1, "element"),
    ("weights", 0, 3, 0, "k_stride"), ("weights", 0, 4, 2, "one stride must be 1"),
    ("weights", 0, 2, FAR, "element"),
    ("stages", 1, 1, 5, "stages 1: last of rows"), ("stages", 1, 0, -1, "stages 1: first of rows"),
    ("stages", 1, 1, -1, "stages 1: last of rows"), ("stages", 0, 0, 1, "stages 0: first of rows"),
    ("stages", 0, 3, 2, "stages 0: last of products"),
    ("stages", 0, 2, 2, "stages 0: first of products"),
    ("states", 0, 0, 0, "states 0: base kind"), ("states", 0, 0, 8, "states 0"),
    ("states", 0, 1, ROW, "states 0: offset"), ("states", 0, 1, -1, "states 0: offset"),
    ("states", 0, 2, 0, "states 0: width"), ("states", 0, 2, ROW + 1, "states 0"),
    ("sizes", 0, None, -1, "sizes: temp"), ("sizes", 1, None, 15, "result"),
    ("sizes", 5, None, 1 << 31, "sizes: sums"),
    ("invariant_sizes", 0, None, -1, "invariant_sizes 0"),
    ("invariant_sizes", 0, None, K * H - 1, "element"),
    ("sequence_widths", 0, None, K - 1, "input"), ("output_widths", 0, None, H - 1, "result"),
]


@pytest.mark.parametrize(("table", "row", "column", "number", "message"), WRONG_NUMBERS)
def test_a_number_that_is_out_of_range(table, row, column, number, message):
    program = a_program()
    if column is None:
        program[table][row] = number
    else:
        program[table][row][column] = number
    with pytest.raises(ValueError, match=message):
        make(program)


def test_whatever_is_changed_in_a_table_a_program_is_refused_or_runs():
    """Also where no list of mistakes would look."""
    rng = np.random.default_rng(1)
    refused = ran = 0
    for _ in range(1500):
        program = copy.deepcopy(a_program())
        for _ in range(rng.integers(1, 3)):
            name = str(rng.choice(list(WIDTHS)))
            row = program[name][rng.integers(len(program[name]))]
            column = rng.integers(len(row))
            number = int(rng.choice([-1, 0, 1, 2, 3, 4, 5, 6, 9, 16, 17, 100, FAR, -FAR]))
            if name == "instructions" and 1 <= column <= 3:
                number %= 1000  # a size whose strides are 0 may be large: it takes time
            row[column] = number
        try:
            run = passes_of(plan_of(make(program)))
            widths = {row[2] for row in program["states"]}
            run.forward(**a_run())
        except ValueError:
            refused += 1
        else:
            assert widths == {H}
            ran += 1
    assert refused > 500
    assert ran > 100


@pytest.mark.parametrize(("table", "width"), WIDTHS.items())
def test_a_table_of_another_width_or_dtype(table, width):
    tables = {n: np.zeros((0, w), np.int32) for n, w in WIDTHS.items()}
    rest = ((0,) * 6, (), (), ())
    native.Program(*tables.values(), *rest)
    with pytest.raises(ValueError, match=f"{table}: expected rows of {width}"):
        native.Program(*{**tables, table: np.zeros((1, width + 1), np.int32)}.values(), *rest)
    with pytest.raises(ValueError):
        native.Program(*{**tables, table: np.zeros((1, width), np.int64)}.values(), *rest)


def test_too_many_of_anything():
    program = a_program()
    program["states"] *= 33
    with pytest.raises(ValueError, match="states: expected at most 32"):
        make(program)
    program = a_program()
    program["bases"] *= 86
    with pytest.raises(ValueError, match="bases: expected at most 512, got 516"):
        make(program)
    program = a_program()
    program["invariant_sizes"] *= 257
    with pytest.raises(ValueError, match="invariant_sizes: expected at most 256"):
        make(program)


def a_layer(changes=(), **arguments):
    """A step of ``a_program``, which takes x as it is."""
    passes = passes_of(plan_of(make(a_program())), **{"T": 1, **dict(changes)})
    run = a_run()
    state = run["initial"][0].copy()
    usual = {"I": K, "operands": (), "invariants": run["invariants"], "state": (state,)}
    return native.LayerStep(passes, **{**usual, **arguments})


def test_a_layer_of_a_stream_steps_its_state():
    run = a_run()
    weight, state = run["invariants"][0].reshape(K, H), run["initial"][0].copy()
    stepper = native.ProgramStepper(
        [a_layer(invariants=run["invariants"], state=(state,))], (state,), Lock()
    )
    h = state.reshape(N, H).copy()
    for x in run["given"][0][0]:
        h = np.tanh(x @ weight + h)
        np.testing.assert_allclose(stepper.run(x), h, rtol=1e-12)
        np.testing.assert_allclose(state.reshape(N, H), h, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"changes": {"T": 2}}, "passes: expected those of one step"),
        ({"I": K + 1}, "sequence 0: expected"),
        ({"I": 0}, "sequence 0"),
        ({"invariants": ()}, "invariants: expected 1, got 0"),
        ({"invariants": (np.zeros(K * H - 1),)}, "invariant 0: expected"),
        ({"state": ()}, "initial: expected 1, got 0"),
        ({"state": (np.zeros(N * H - 1),)}, "initial 0: expected"),
    ],
)
def test_a_wrong_layer_of_a_stream_is_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        a_layer(**arguments)


def test_products_of_a_layer_of_a_stream_are_checked():
    plan = plan_of(make(a_program()), products=((0, 0, False, 1, K),), forward_sequences=(0,))
    run = a_run()

    def layer(*operands):
        return native.LayerStep(
            passes_of(plan, T=1), 2, operands, run["invariants"], (run["initial"][0].copy(),)
        )

    for operands, message in [
        ((), "operands: expected more than 0"),
        ((np.zeros((2, K)),), "operands: expected more than 1"),
        ((np.zeros((2, K + 1)), np.zeros(K)), "matrix: axis 1"),
        ((np.zeros((3, K)), np.zeros(K)), "matrix: axis 0"),
        ((np.zeros((2, K)), np.zeros(K - 1)), "bias: expected"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer(*operands)
    layer(np.zeros((2, K)), np.zeros(K))


def test_layers_of_a_stream_have_to_fit():
    state = np.zeros(N * H)
    with pytest.raises(ValueError, match="layers: expected one at least"):
        native.ProgramStepper([], (state,), Lock())
    with pytest.raises(ValueError, match=f"layers: expected one of N={N} I={H}"):
        native.ProgramStepper([a_layer(), a_layer()], (state,), Lock())
    stepper = native.ProgramStepper([a_layer()], (state,), Lock())
    x = np.zeros((N, K))
    turned = np.zeros((K, N)).T
    for wrong in (x[:-1], np.zeros((N, K + 1)), x.astype("float32"), x[None], turned, None):
        with pytest.raises(ValueError, match="x: expected a contiguous"):
            stepper.run(wrong)
    y = np.zeros((N, H))
    for wrong in (y[:-1], y[:, :-1], y.astype("float32"), state.reshape(N, H)):
        with pytest.raises(ValueError, match="y: expected a contiguous"):
            stepper.run(x, wrong)
    assert stepper.run(x, y) is y
