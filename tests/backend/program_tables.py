"""Small programs as tables, and passes over a few steps of them: what tests of programs share."""

from __future__ import annotations

import numpy as np
import pytest

native = pytest.importorskip("rnnkit.backend._native")

T, N, K, H = 5, 3, 4, 5
ROW = 16  # elements of a row of a record
OPS = native.program_ops()
KINDS = ("temp", "invariant", "sequence", "state", "kept", "summands", "wide", "output", "next",
         "flowing", "flowed", "sums")
WIDTHS = {"bases": 2, "instructions": 24, "products": 6, "weights": 5, "stages": 4, "states": 3}
SIZES = ("sizes", "invariant_sizes", "sequence_widths", "output_widths")
KEPT = ((KINDS.index("kept"), 0),)


def instruction(op, out, *inputs, size=(1, 1, H)):
    """Operands are (base, offset), their last stride 1."""
    row = [OPS.index(op), *size, *out, 0, 0, 1]
    for base, offset in inputs:
        row += [base, offset, 0, 0, 1]
    return row + [*out, 0, 0, 0] * (3 - len(inputs))


def bases(*kinds):
    return [[KINDS.index(kind), index] for kind, index in kinds]


def a_program():
    """h' = tanh(x . W + h): bases 0 sequence, 1 wide, 2 state, 3 kept, 4 output, 5 invariant."""
    return {
        "bases": bases(("sequence", 0), ("wide", 0), ("state", 0), ("kept", 0), ("output", 0),
                       ("invariant", 0)),
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


def of_rows(kinds, instructions, state, sizes, sequence_widths=(), output_widths=()):
    """A program of one stage without products, with one state (H)."""
    return {
        "bases": bases(*kinds), "instructions": instructions, "products": [], "weights": [],
        "stages": [[0, len(instructions), 0, 0]], "states": [[KINDS.index(state), 0, H]],
        "sizes": sizes, "invariant_sizes": [], "sequence_widths": sequence_widths,
        "output_widths": output_widths,
    }


def tables_of(program):
    return {name: np.array(program[name], np.int32).reshape(-1, w) for name, w in WIDTHS.items()}


def make(program):
    return native.Program(*tables_of(program).values(), *[tuple(program[n]) for n in SIZES])


def plan_of(program, **changes):
    """Of a program of ``a_program``'s inputs and outputs, without a backward pass."""
    arguments = {
        "forward": program, "backward": None, "kept_states": KEPT, "kept_size": ROW,
        "products": (), "forward_sequences": (-1,), "backward_sequences": (),
        "backward_outputs": (), "sums": (),
    }
    return native.Plan(**{**arguments, **changes})


def passes_of(plan, **changes):
    arguments = {
        "plan": plan, "dtype": "float64", "n_threads": 2, "T": T, "N": N, "schedule": None,
        "reverse": False, "layout": "time_first", "block": 2,
    }
    return native.Passes(**{**arguments, **changes})


def a_run(dtype="float64"):
    """What a forward pass of ``a_program`` takes."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.normal(size=shape).astype(dtype)

    return {
        "first": 0, "count": T, "rows": (), "operands": (), "invariants": (normal(K * H),),
        "given": ((normal(T, N, K), "time_first"),),
        "outputs": ((np.zeros((T, N, H), dtype), "time_first"),), "initial": (normal(N * H),),
        "restart": (), "final": (np.zeros(N * H, dtype),),
    }
