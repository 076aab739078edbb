"""Truncated backpropagation through time: BPTT(h; h') of Williams and Peng.

R. J. Williams and J. Peng, "An efficient gradient-based algorithm for on-line training of recurrent
network trajectories", Neural Computation 2(4), 1990. Their h, the steps that a gradient goes back,
is ``k2`` here, and their h', the steps between two updates, is ``k1``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from rnnkit import ops
from rnnkit.autograd import Tensor, as_tensor
from rnnkit.checks import check_bool, check_callable, check_size
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.module import Module
from rnnkit.nn.recurrent import Recurrent
from rnnkit.recurrent.packed import PackedSequence
from rnnkit.recurrent.schedule import make_schedule


class Chunk(NamedTuple):
    """What ``tbptt`` yields.

    Attributes:
        y: outputs of the newest steps, (k1, N, *), or (N, k1, *) with ``batch_first``; fewer steps
            in the last chunk. Their gradient goes back k2 steps.
        steps: which steps of x they are, to slice targets with: ``targets[steps]``, or
            ``targets[:, steps]`` with ``batch_first``.
        state: the state after the newest step, detached.
    """

    y: Tensor
    steps: slice
    state: Any


def tbptt(
    module: Callable[..., Any],
    x: Any,
    state: Any = None,
    *,
    k1: int,
    k2: int | None = None,
    batch_first: bool | None = None,
    lengths: Any = None,
    reset: Any = None,
    reset_state: Any = None,
) -> Iterator[Chunk]:
    """Runs a module over a long sequence, a chunk at a time, for one update after each::

        for y, steps, state in nn.utils.tbptt(lstm, x, state, k1=20, k2=60):
            loss = losses.mse_loss(head(y), targets[steps])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    A chunk is the next ``k1`` steps; the last one has what is left. Backward from its outputs goes
    back over the ``k2`` steps that end with the chunk, its own included, and stops there at a state
    taken as a constant; where those reach the first step, it stops at ``state``, which gets its
    gradient.

    Of those steps, the ones before the chunk run again, with the weights as they are by then, so
    that the gradient is exactly that of the loss as a function of the present weights and of the
    state k2 steps ago; which was computed while the chunk before ran, with the weights before the
    last update. Forward and backward thus cost k2 / k1 times those of ``k2`` = ``k1``, where each
    step runs once (but for a shorter last chunk, which goes back k2 steps as well); memory is that
    of k2 steps. With ``k2`` >= T and weights that stay as they are, the chunks' gradients add up to
    those of full backpropagation through time; with ``k1`` >= T there is one chunk, the plain call.

    The chunks are computed as they are asked for. Chunks past the first have a graph of their own:
    what made x would be walked again by each of them, so that layers below the recurrent one, such
    as an embedding, belong into ``module``.

    Args:
        module: a recurrent module; or a module or function called as ``y, state = module(x,
            state)``, and with those of the keywords below that are given, whose output at a step
            depends on that step and the ones before it.
        x: (T, N, *), (N, T, *) with ``batch_first``, or (T, *) where a recurrent module takes one
            sequence without a batch: an array or Tensor, of ids as well.
        state: as ``module`` takes it.
        k1: steps between two updates.
        k2: steps that each gradient goes back, ``k1`` or more; None: ``k1``.
        batch_first: None: as the module says, or False where it doesn't.
        lengths, reset, reset_state: of the whole sequence, as the recurrent modules take them.

    Masks and noise, such as dropout's, are drawn anew for each piece that runs in one go: for the
    steps up to where the next chunk's gradient will stop, and for those after it.

    Raises:
        ArgumentError: k1 or k2 out of range; a bidirectional module, whose reverse direction begins
            at the end of the sequence, so that no output is known before the last step; no steps.
        ShapeError, DTypeError: x, lengths or reset of another shape or dtype. The module checks the
            rest as each chunk runs.
    """
    check_callable("module", module)
    k1 = check_size("k1", k1)
    k2 = k1 if k2 is None else check_size("k2", k2)
    if k2 < k1:
        raise ArgumentError(f"k2: expected at least k1 = {k1}, got {k2}")
    _refuse_bidirectional(module)
    if batch_first is None:
        batch_first = getattr(module, "batch_first", False)
    if isinstance(x, PackedSequence):
        raise DTypeError("x: expected a padded batch, got a PackedSequence; pass lengths= with it")
    if not isinstance(x, (Tensor, np.ndarray)):
        raise DTypeError(f"x: expected a Tensor or a NumPy array, got {type(x).__name__}")
    x = as_tensor(x)
    single = x.ndim == 2 and isinstance(module, Recurrent)
    time = 1 if check_bool("batch_first", batch_first) and not single else 0
    if x.ndim <= time:
        raise ShapeError(f"x: expected a time and a batch axis, got shape {x.shape}")
    T = x.shape[time]
    if T == 0:
        raise ArgumentError(f"x: expected at least one step, got shape {x.shape}")
    N = 1 if single or x.ndim < 2 else x.shape[1 - time]
    schedule = make_schedule(T, N, lengths, reset, time == 1, single)

    def run(begin: int, end: int, before: Any) -> tuple[Any, Any]:
        """Steps begin to end, from a state."""
        options: dict[str, Any] = {}
        if schedule is not None and schedule.lengths is not None:
            options["lengths"] = np.clip(schedule.lengths - begin, 0, end - begin)
        if schedule is not None and schedule.reset is not None:
            part = schedule.reset[begin:end]
            options["reset"] = part[:, 0] if single else part.T if time else part
        if reset_state is not None:
            options["reset_state"] = reset_state
        piece = x[:, begin:end] if time else x[begin:end]
        return module(piece, before, **options)

    return _chunks(run, T, time, k1, k2, state)


def _chunks(
    run: Callable[[int, int, Any], tuple[Any, Any]],
    T: int,
    time: int,
    k1: int,
    k2: int,
    state: Any,
) -> Iterator[Chunk]:
    begin = 0  # of the window, whose initial state ``state`` is
    for newest in range(0, T, k1):
        end = min(newest + k1, T)
        next_begin = max(0, min(end + k1, T) - k2)
        now, outputs = state, []
        # The next window begins inside this one: there its initial state is taken from.
        for first, last in ((begin, next_begin), (next_begin, end)):
            if first == last:
                continue
            y, now = run(first, last, now)
            if last > newest:
                cut = max(newest - first, 0)
                outputs.append((y[:, cut:] if time else y[cut:]) if cut else y)
            if last == next_begin:
                state = detach_state(now)
        begin = next_begin
        y = outputs[0] if len(outputs) == 1 else ops.cat(outputs, time)
        yield Chunk(y, slice(newest, end), detach_state(now))


def detach_state(state: Any) -> Any:
    """The values of a carried state without its history: where backpropagation is truncated.

    Args:
        state: a Tensor, None, or tuples, lists and dicts of these, as modules return them.

    Returns:
        The same with every Tensor detached; the numbers are shared.

    Raises:
        DTypeError: it holds something else.
    """
    if state is None:
        return None
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, dict):
        return {name: detach_state(part) for name, part in state.items()}
    if isinstance(state, (tuple, list)):
        parts = [detach_state(part) for part in state]
        # A namedtuple takes its fields one by one.
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    raise DTypeError(f"state: expected Tensors or tuples of them, got {type(state).__name__}")


def _refuse_bidirectional(module: Any) -> None:
    inside = module.modules() if isinstance(module, Module) else ()
    if any(isinstance(each, Recurrent) and each.bidirectional for each in inside):
        raise ArgumentError(
            "module: a bidirectional module cannot be truncated: its reverse direction begins at "
            "the end of the sequence"
        )
