"""The extension refuses by name what no program may hold, or no run of one; it never crashes."""

from __future__ import annotations

import ast
import copy
from pathlib import Path

import numpy as np
import pytest

native = pytest.importorskip("rnnkit.backend._native")

STUBS = Path(native.__file__).with_name("_native.pyi")
T, N, H, K = 3, 2, 5, 4
ROW = 16  # elements of a row of a record
OPS = native.program_ops()
KINDS = ("temp", "invariant", "sequence", "state", "kept", "summands", "wide", "output", "next",
         "flowing", "flowed", "sums")


def instruction(op, out, *inputs, size=(1, 1, H)):
    """Operands are (base, offset), their last stride 1."""
    row = [OPS.index(op), *size, *out, 0, 0, 1]
    for base, offset in inputs:
        row += [base, offset, 0, 0, 1]
    return row + [*out, 0, 0, 0] * (3 - len(inputs))


def a_program():
    """h' = tanh(x . W + h): bases 0 sequence, 1 wide, 2 state, 3 kept, 4 output, 5 invariant."""
    kinds = [("sequence", 0), ("wide", 0), ("state", 0), ("kept", 0), ("output", 0),
             ("invariant", 0)]
    return {
        "bases": [[KINDS.index(kind), index] for kind, index in kinds],
        "instructions": [
            instruction("add", (3, 0), (1, 0), (2, 0)),
            instruction("tanh", (3, 0), (3, 0)),
            instruction("copy", (4, 0), (3, 0)),
            instruction("reduce_sum", (1, 0), (3, 0), size=(1, H, 1)),
        ],
        "products": [[0, 0, 0, 0, 1, 0]],
        "weights": [[0, K, H, H, 1]],
        "stages": [[0, 0, 0, 1], [0, 4, 1, 1]],
        "states": [[KINDS.index("kept"), 0, H]],
        "sizes": [0, ROW, ROW, 0, 0, 0],
        "invariant_sizes": [K * H], "sequence_widths": [K], "output_widths": [H],
    }


WIDTHS = {"bases": 2, "instructions": 24, "products": 6, "weights": 5, "stages": 4, "states": 3}


def make(program):
    tables = [np.array(program[n], np.int32).reshape(-1, w) for n, w in WIDTHS.items()]
    rest = ("sizes", "invariant_sizes", "sequence_widths", "output_widths")
    return native.Program(*tables, *[tuple(program[name]) for name in rest])


def a_run():
    rng = np.random.default_rng(0)
    return {
        "program": make(a_program()), "dtype": "float64", "n_threads": 2, "T": T, "N": N,
        "schedule": None, "reverse": False, "invariants": (rng.normal(size=K * H),),
        "sequences": ((rng.normal(size=(T, N, K)), "time_first"),),
        "outputs": ((np.zeros((T, N, H)), "time_first"),),
        "initial": (rng.normal(size=N * H),), "restart": (), "final": (np.zeros(N * H),),
        "kept": np.zeros(T * N * ROW), "kept_states": ((KINDS.index("kept"), 0),),
        "kept_size": ROW,
    }


def test_the_program_of_these_tests_runs():
    arguments = a_run()
    native.run_program(**arguments)
    h = arguments["initial"][0].reshape(N, H)
    weight = arguments["invariants"][0].reshape(K, H)
    for x, y in zip(arguments["sequences"][0][0], arguments["outputs"][0][0], strict=True):
        h = np.tanh(x @ weight + h)
        np.testing.assert_allclose(y, h, rtol=1e-12)
    np.testing.assert_array_equal(arguments["final"][0].reshape(N, H), y)


def test_weights_packed_by_the_first_run_serve_the_later_ones():
    arguments = a_run()
    native.run_program(**arguments)
    expected = arguments["outputs"][0][0].copy()
    packed = native.Packed(arguments["program"], "float64")
    for _ in range(2):
        arguments["outputs"][0][0][...] = 0
        native.run_program(**arguments, packed=packed)
        np.testing.assert_array_equal(arguments["outputs"][0][0], expected)
    # What is packed stays so, whatever becomes of the invariants.
    other = (np.zeros(K * H),)
    native.run_program(**{**arguments, "invariants": other, "n_threads": 1}, packed=packed)
    np.testing.assert_array_equal(arguments["outputs"][0][0], expected)


def test_weights_packed_for_another_program_or_dtype_are_refused():
    arguments = a_run()
    for packed in (
        native.Packed(make(a_program()), "float64"), native.Packed(arguments["program"], "float32")
    ):
        with pytest.raises(ValueError, match="packed: expected the weights of this program"):
            native.run_program(**arguments, packed=packed)
    with pytest.raises(TypeError):
        native.Packed(None, "float64")


def test_the_type_stubs_list_what_the_extension_has():
    stubs = {node.name for node in ast.parse(STUBS.read_text(encoding="utf-8")).body
             if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    inner = {"Arrays", "Buffers", "Left", "Loans", "Several", "Tables"}  # of calls, not for callers
    helpers = {"check_count", "check_range", "check_tables", "operation_inputs", "rows_of_table"}
    public = {name for name in dir(native) if not name.startswith("_")} - inner - helpers
    assert public == stubs


def test_tables_are_copied():
    program = a_program()
    tables = {n: np.array(program[n], np.int32).reshape(-1, w) for n, w in WIDTHS.items()}
    rest = [tuple(program[n]) for n in ("sizes", "invariant_sizes", "sequence_widths",
                                        "output_widths")]
    arguments = {**a_run(), "program": native.Program(*tables.values(), *rest)}
    for table in tables.values():
        table[...] = 1 << 30
    native.run_program(**arguments)
    ours = arguments["outputs"][0][0].copy()
    arguments = a_run()
    native.run_program(**arguments)
    np.testing.assert_array_equal(ours, arguments["outputs"][0][0])


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
            arguments = {**a_run(), "program": make(program)}
            widths = {row[2] for row in program["states"]}
            native.run_program(**arguments)
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
    program["states"] *= 9
    with pytest.raises(ValueError, match="states: expected at most 8"):
        make(program)
    program = a_program()
    program["bases"] *= 11
    with pytest.raises(ValueError, match="bases: expected at most 64"):
        make(program)
    program = a_program()
    program["invariant_sizes"] *= 257
    with pytest.raises(ValueError, match="invariant_sizes: expected at most 256"):
        make(program)


def strided(*shape):
    return np.zeros((*shape[:-1], 2 * shape[-1]))[..., ::2]


WRONG_ARRAYS = [
    ("T", 0, "sizes must be positive"), ("N", -1, "sizes must be positive"),
    ("N", 1 << 60, "too large"), ("T", 4, "sequence 0: expected T=4"), ("N", 3, "expected"),
    ("backward", True, "backward: the program is one of a forward pass"),
    ("invariants", (), "invariants: expected 1, got 0"),
    ("invariants", (None,), "invariant 0: missing"),
    ("invariants", (np.zeros(K * H + 1),), "invariant 0: .*expected 20"),
    ("invariants", (strided(K * H),), "invariant 0: not contiguous"),
    ("sequences", (), "sequences: expected 1"),
    ("sequences", ((None, "time_first"),), "sequence 0: missing"),
    ("sequences", ((np.zeros((T, N, K)), "sideways"),), "no layout 'sideways'"),
    ("sequences", ((np.zeros((T, N, K + 1)), "time_first"),), "sequence 0: expected 4 features"),
    ("sequences", ((strided(T, N, K), "time_first"),), "sequence 0: expected 4 features"),
    ("sequences", ((np.zeros((0, N, K)), "shared"),), "sequence 0: expected T=3"),
    ("sequences", ((np.zeros((T, N, K)), "batch_first"),), "sequence 0: expected T=3"),
    ("sequences", ((np.zeros((T * N - 1, K)), "packed"),), "sequence 0: expected 6 rows"),
    ("sequences", ((np.zeros((T * N, K)), "time_first"),), "sequence 0: expected 3 axes"),
    ("outputs", (), "outputs: expected 1"),
    ("outputs", ((np.zeros((T - 1, N, H)), "time_first"),), "output 0: expected T=3"),
    ("outputs", ((None, "time_first"),), "output 0: missing"),
    ("initial", (), "initial: expected 1"), ("initial", (None,), "initial 0: missing"),
    ("initial", (np.zeros(N * H - 1),), "initial 0: .*expected 10"),
    ("restart", (np.zeros(N * H),) * 2, "restart: expected 1, got 2"),
    ("restart", (np.zeros(1),), "restart 0: .*expected 10"),
    ("final", (), "final: expected 1"), ("final", (None,), "final 0: missing"),
    ("final", (np.zeros(N * H + 1),), "final 0: .*expected 10"),
    ("kept", None, "kept: missing"), ("kept", np.zeros(T * N * ROW - 1), "kept: .*expected 96"),
    ("kept_size", H - 1, "kept_size: expected at least 5"), ("kept_size", -1, "kept_size"),
    ("kept_states", (), "kept_states: expected 1"),
    ("kept_states", ((KINDS.index("kept"), ROW),), "kept_states 0: offset"),
    ("kept_states", ((KINDS.index("kept"), -1),), "kept_states 0: offset"),
    ("kept_states", ((KINDS.index("next"), 0),), "kept_states 0: offset"),
    ("kept_states", ((KINDS.index("temp"), 0),), "kept_states 0: base kind"),
    ("kept_states", ((),), "not enough values|unpack"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG_ARRAYS)
def test_an_array_that_does_not_fit_is_named(name, value, message):
    with pytest.raises(ValueError, match=message):
        native.run_program(**{**a_run(), name: value})


@pytest.mark.parametrize("name", ["invariants", "sequences", "outputs", "initial", "final", "kept"])
def test_a_wrong_dtype(name):
    arguments = a_run()
    given = arguments[name]
    if name == "kept":
        wrong = given.astype(np.float32)
    elif name in ("sequences", "outputs"):
        wrong = tuple((array.astype(np.float32), layout) for array, layout in given)
    else:
        wrong = tuple(array.astype(np.float32) for array in given)
    with pytest.raises(TypeError, match="expected format"):
        native.run_program(**{**arguments, name: wrong})


@pytest.mark.parametrize("name", ["outputs", "final", "kept"])
def test_a_read_only_result(name):
    arguments = a_run()
    given = arguments[name]
    array = given if name == "kept" else given[0][0] if name == "outputs" else given[0]
    array.flags.writeable = False
    with pytest.raises(ValueError, match=r"read-only|writeable|writable"):
        native.run_program(**arguments)


@pytest.mark.parametrize("name", ["program", "invariants", "sequences", "initial", "kept_states"])
def test_nothing_in_place_of_something(name):
    with pytest.raises(TypeError):
        native.run_program(**{**a_run(), name: None})


def test_a_backward_program_needs_what_was_kept():
    """d_h = d_h' * h, of a state that the forward pass has to have kept."""
    bases = [("flowing", 0), ("flowed", 0), ("state", 0)]
    program = {
        **a_program(), "bases": [[KINDS.index(kind), index] for kind, index in bases],
        "instructions": [instruction("mul", (1, 0), (0, 0), (2, 0))],
        "products": [], "weights": [], "stages": [[0, 1, 0, 0]],
        "states": [[KINDS.index("flowed"), 0, H]], "sizes": [0, 0, 0, 0, ROW, 0],
        "invariant_sizes": [], "sequence_widths": [], "output_widths": [],
    }
    kept = np.random.default_rng(0).normal(size=(T, N, ROW))
    d_initial = np.empty(N * H)
    arguments = {
        **a_run(), "program": make(program), "invariants": (), "sequences": (), "outputs": (),
        "final": (), "kept": kept.reshape(-1), "backward": True, "d_final": (np.ones(N * H),),
        "d_initial": (d_initial,),
    }
    native.run_program(**arguments)
    expected = arguments["initial"][0].reshape(N, H) * kept[:-1, :, :H].prod(0)
    np.testing.assert_allclose(d_initial.reshape(N, H), expected, rtol=1e-12)
    for name, value, message in (
        ("kept_states", ((KINDS.index("next"), 0),), "kept_states 0: .* was not kept"),
        ("kept", None, "kept: missing"), ("d_final", (), "d_final: expected 1"),
        ("d_initial", (), "d_initial: expected 1"),
        ("d_initial", (np.empty(1),), "d_initial 0: .*expected 10"),
        ("d_restart", (None, None), "d_restart: expected 1"),
        ("backward", False, "backward: the program is one of a backward pass"),
    ):
        with pytest.raises(ValueError, match=message):
            native.run_program(**{**arguments, name: value})
