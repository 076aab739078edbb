"""Prefetched batches: the same ones, errors where they belong, and no thread left behind."""

import gc
import subprocess
import sys
import threading
import time
from itertools import islice

import numpy as np
import pytest

from rnnkit.data import ContinuousBatches, Prefetched, RaggedBatches
from rnnkit.errors import ArgumentError


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("rnnkit-prefetch")]


def wait_until_none():
    deadline = time.monotonic() + 10
    while threads() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not threads()


def source():
    sequences = [np.arange(1 + i % 7) for i in range(40)]
    return RaggedBatches(sequences, np.arange(40), batch_size=6)


def same(one, other):
    assert one.position == other.position
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True) if b is not None)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_batches_are_those_of_the_source_in_any_order(depth):
    plain = source()
    with Prefetched(source(), depth) as ahead:
        assert ahead.batches_per_epoch == plain.batches_per_epoch
        for one, other in zip(islice(ahead.batches(3), 20), plain.batches(3), strict=False):
            same(one, other)
        for position in [9, 9, 10, 4, 100, 101, 0, 2, 3, 3]:
            same(ahead.batch(position), plain.batch(position))
            for one, other in zip(ahead.epoch(), plain.epoch(), strict=True):
                same(one, other)
    wait_until_none()


def test_the_next_batch_is_made_while_one_is_used():
    asked = []
    made = threading.Event()

    class Watched(ContinuousBatches):
        def batch(self, position):
            asked.append((position, threading.current_thread().name))
            if position == 2:
                made.set()
            return super().batch(position)

    with Prefetched(Watched(np.arange(100), 2, 5), depth=2) as ahead:
        ahead.batch(0)
        assert made.wait(10)
    assert [position for position, _ in asked] == [0, 1, 2]
    assert all(name.startswith("rnnkit-prefetch") for _, name in asked)


class Failing(ContinuousBatches):
    def batch(self, position):
        if position == 3:
            raise OSError(5, "the disk is gone")
        return super().batch(position)


def test_an_error_comes_with_its_batch_and_not_before():
    with Prefetched(Failing(np.arange(100), 2, 5), depth=4) as ahead:
        taken = ahead.batches()
        assert [next(taken).position for _ in range(3)] == [0, 1, 2]
        with pytest.raises(OSError, match="the disk is gone"):
            next(taken)
        assert ahead.batch(4).position == 4
        with pytest.raises(OSError, match="the disk is gone"):
            list(ahead.epoch())


def test_the_thread_ends_with_its_object():
    for batch in Prefetched(source()).batches():
        if batch.position == 2:
            break
    ahead = Prefetched(source())
    part = ahead.epoch()
    next(part)
    part.close()
    del ahead, part, batch
    gc.collect()
    wait_until_none()


def test_after_closing_it_gives_no_more():
    ahead = Prefetched(source())
    ahead.batch(0)
    ahead.close()
    ahead.close()
    wait_until_none()
    with pytest.raises(ArgumentError, match="closed"):
        ahead.batch(1)
    with pytest.raises(ArgumentError, match="position"):
        Prefetched(source()).batch(-1)
    with pytest.raises(ArgumentError, match="depth"):
        Prefetched(source(), 0)


def test_python_ends_while_batches_are_being_made():
    code = (
        "import numpy as np\n"
        "from rnnkit.data import ContinuousBatches, Prefetched\n"
        "ahead = Prefetched(ContinuousBatches(np.arange(100), 2, 5), 3)\n"
        "for batch in ahead.batches():\n"
        "    if batch.position == 5: break\n"
        "print('done')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout == "done\n"
    assert result.stderr == ""


def test_a_forked_child_has_a_thread_of_its_own(in_child):
    plain = source()
    with Prefetched(source(), depth=2) as batches:
        same(batches.batch(0), plain.batch(0))
        passed = batches.epoch()
        next(passed)

        def go_on():
            for position in (1, 2, 6):
                same(batches.batch(position), plain.batch(position))
            with pytest.raises(RuntimeError, match="the process that began this pass"):
                next(passed)
            batches.close()

        in_child(go_on)
        same(batches.batch(1), plain.batch(1))
        assert len(list(passed)) == batches.batches_per_epoch - 1
