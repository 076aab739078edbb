"""What an amount of memory is, and how many steps of a run it is good for."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError
from rnnkit.recurrent.memory import MemoryBudgetWarning, bytes_of, segment_within
from rnnkit.recurrent.program import hoisted


def test_amounts():
    assert bytes_of("full") is None
    for text, amount in {
        np.int64(7): 7, "1": 1, "10B": 10,
        "3kb": 3000, "1.5MB": 1_500_000, " 2 GiB ": 2 << 30, "1TB": 10**12,
    }.items():  # fmt: skip
        assert bytes_of(text) == amount
    for wrong in ("", "0", "-1", 0, -5, 2.5, True, None, "5 apples", "MB", "0.1B", [1], "9" * 400):
        with pytest.raises(ArgumentError, match=r"memory: expected 'full', .* got"):
            bytes_of(wrong)


@pytest.mark.parametrize(("N", "largest", "steps"), [
    (1, 1 << 14, 2048), (8, 1 << 18, 128), (8, 1 << 20, 64), (64, 1 << 20, 16), (3, 0, 683),
])
def test_blocks_of_programs_are_as_long_as_their_products_are_small(N, largest, steps):
    assert hoisted.steps_of_block(N, largest) == steps


@pytest.mark.parametrize("T", [100, 700])
def test_a_program_is_not_said_to_need_more_than_it_does(native, T):
    """Neither whole blocks of a sequence that is shorter, nor blocks where it says steps."""
    x, backend = rk.zeros(T, 8, 4), rk.backend("native")
    layer = nn.LSTM(4, 8, peephole=True, bidirectional=True, memory="2 MB" if T < 256 else "20 MB")
    with backend:
        layer(x)
    assert "segments of" not in rk.why()[-1].reason
    layer.memory = 1000
    message = f"a budget of 1000 bytes .* a layer over {T} steps"
    with backend, pytest.warns(MemoryBudgetWarning, match=message) as warned:
        layer(x)
    assert len(warned) == 1
    assert rk.why()[-1].reason.count("segments of") == (T > 256)


@pytest.mark.filterwarnings("ignore:memory")
@pytest.mark.parametrize("together", [1, 3])
def test_the_fewest_even_segments_that_a_budget_allows(together):
    for T in (1, 2, 7, 100):
        blocks = -(-T // together)
        for step, between in ((10, 1), (1, 10), (7, 5)):
            totals = {
                each: min(T, each * together) * step
                + (-(-blocks // each) * between if each < blocks else 0)
                for each in range(1, blocks + 1)
            }
            for budget in range(1, 1200, 7):
                fitting = [each for each, total in totals.items() if total <= budget]
                steps = segment_within(
                    budget, T, lambda steps, step=step: steps * step, between, together
                )
                found = -(-steps // together)
                assert steps == min(T, found * together)
                if fitting:
                    # Not always the very fewest: their count goes in jumps.
                    assert totals[found] <= budget
                    segments = -(-blocks // found)
                    most = max(fitting) - max(1, between // (step * together))
                    assert segments <= -(-blocks // max(1, most))
                    assert found == -(-blocks // segments)
                else:
                    assert totals[found] == min(totals.values())


def test_a_budget_may_be_used_up():
    assert segment_within(50, 10, lambda steps: 10 * steps, 0) == 5
    assert segment_within(100, 10, lambda steps: 10 * steps, 0) == 10


def test_a_segment_of_an_endless_sequence_is_found_soon():
    tried = []

    def segment_bytes(steps):
        tried.append(steps)
        return steps

    with pytest.warns(MemoryBudgetWarning):
        steps = segment_within(1000, 2**58, segment_bytes, 1)
    assert 2**28 <= steps <= 2**30
    assert len(tried) < 50_000
