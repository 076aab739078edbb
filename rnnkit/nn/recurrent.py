"""Recurrent modules: layers and directions stacked over the recurrent primitive.

Notation: T time, N batch, I input, H hidden, L layers, D directions (1 or 2), G gates.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import ops
from rnnkit.cells import Cell, GRUCell, LSTMCell, RNNCell
from rnnkit.cells.checks import check_bool, check_size, check_tensor
from rnnkit.errors import ArgumentError
from rnnkit.module import Module
from rnnkit.recurrent import Stepper, run_checked_layer
from rnnkit.recurrent.memory import bytes_of
from rnnkit.recurrent.options import PLAIN, Options
from rnnkit.recurrent.schedule import make_schedule

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.recurrent.options import Result
    from rnnkit.recurrent.schedule import Schedule

MERGES = ("concat", "sum", "mean", "separate")

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]


class Recurrent(Module):
    """Runs any ``rk.Cell`` over sequences, in layers and in one or both directions.

    ``cell`` becomes the forward cell of the first layer; the others are made with
    ``cell.renew(input_size)``. A layer above the first reads the outputs of the one below, both
    directions side by side (D*H features).

    Every parameter ``p`` of a cell is a parameter of this module under PyTorch's name for it:
    ``p_l{k}`` for layer k, ``p_l{k}_reverse`` for its reverse direction.

    Args:
        cell: the cell of the first layer.
        num_layers: L.
        batch_first: whether x and y are (N, T, ...) in place of (T, N, ...); never the states.
        dropout: probability of zeroing an output between two layers in training; not applied
            after the last layer.
        bidirectional: whether each layer also runs backward over time (D = 2).
        merge: what becomes of a layer's two directions: "concat" (side by side, D*H features),
            "sum" or "mean" (H features), or "separate" (y is a pair; between layers as "concat").
        memory: what a training step may keep between its passes: "full"; or a budget in bytes, or a
            text such as "256MB", for what is kept besides inputs and outputs. Backward then runs
            forward again over segments of the sequence; the results have the same bits. A budget
            that cannot be met gives a ``MemoryBudgetWarning``.

    Called as ``y, state = module(x, state)``:
        x: (T, N, I), (N, T, I) with ``batch_first``, or (T, I) for one sequence without a batch.
        state: initial state, (L*D, N, H), or (L*D, H) without a batch: a tensor for a cell with one
            state, a tuple for a cell with several; None starts from the cells' ``initial_state``.
        y: the last layer's outputs (T, N, D*H), (N, T, D*H) with ``batch_first``, or (T, D*H).
        The returned state has the layout of ``state``; layer k, direction d is at index k*D + d.

    Keyword arguments of the call:
        lengths: (N,) integers from 0 to T, in any order: the steps of each row. Outputs past a
            row's end are zero, its final state is that at its end, and the reverse direction begins
            there.
        reset: (T, N) booleans, (N, T) with ``batch_first``: True where a new sequence begins. The
            state of that row restarts before the step (in the reverse direction, before the step
            that precedes it in time), and no gradient passes.
        reset_state: where it restarts, with the layout of ``state``; None: zero.
        return_sequences: False gives as y only each row's last output in each direction,
            (N, D*H), zero for a row of length 0; the outputs of every step are then not kept.
        return_steps: True gives a third result: a dict of state names, to a tuple of that state
            after every step for each layer, (T, N, D*H) or (N, T, D*H). All of it is
            differentiable.

    T = 0 gives an empty y and hands the initial state through; N = 0 gives empty arrays. NaN and
    infinities propagate. Read-only and non-contiguous arrays are fine.

    Raises:
        ShapeError: a wrong rank or size of x or of a state.
        DTypeError: integers, or a dtype other than that of the parameters.
        ArgumentError: an option or a length out of range; a wrong number of states.
        BackendError: the native path is forced and can't run this cell; the message has the reason.
    """

    def __init__(
        self,
        cell: Cell,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        merge: str = "concat",
        memory: str | int = "full",
    ) -> None:
        super().__init__()
        if not isinstance(cell, Cell):
            raise ArgumentError(f"cell: expected a Cell object, got {type(cell).__name__}")
        self.input_size = cell.input_size
        self.hidden_size = cell.hidden_size
        self.num_layers = check_size("num_layers", num_layers)
        self.batch_first = check_bool("batch_first", batch_first)
        self.dropout = _check_probability("dropout", dropout)
        self.bidirectional = check_bool("bidirectional", bidirectional)
        if merge not in MERGES:
            raise ArgumentError(f"merge: expected one of {', '.join(MERGES)}, got {merge!r}")
        self.merge = merge
        bytes_of(memory)
        self.memory = memory
        if self.dropout > 0 and self.num_layers == 1:
            warnings.warn(
                f"dropout={dropout} acts between layers only and num_layers is 1: "
                "nothing will be dropped",
                stacklevel=2 if type(self) is Recurrent else 3,
            )
        self._layers = self._make_layers(cell)
        self._owners: dict[str, tuple[Cell, str]] = {}
        for layer, cells in enumerate(self._layers):
            for each, suffix in zip(cells, ("", "_reverse"), strict=False):
                self._share_with(each, f"_l{layer}{suffix}")

    def _make_layers(self, cell: Cell) -> tuple[tuple[Cell, ...], ...]:
        directions = 2 if self.bidirectional else 1
        layers = []
        for layer in range(self.num_layers):
            both = 2 if self.bidirectional and self.merge not in ("sum", "mean") else 1
            size = cell.input_size if layer == 0 else both * cell.output_size
            layers.append(
                tuple(
                    cell if layer == direction == 0 else cell.renew(size)
                    for direction in range(directions)
                )
            )
        return tuple(layers)

    def _share_with(self, cell: Cell, suffix: str) -> None:
        """Registers what a cell holds on this module, which is the one that users see.

        The cells are not submodules, or each parameter would have a second name.
        """
        persistent = cell.state_dict()
        for name, parameter in cell.named_parameters():
            own_name = name.replace(".", "_") + suffix
            self.register_parameter(own_name, parameter)
            self._owners[own_name] = (cell, name)
        for name, buffer in cell.named_buffers():
            own_name = name.replace(".", "_") + suffix
            self.register_buffer(own_name, buffer, persistent=name in persistent)
            self._owners[own_name] = (cell, name)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        owners = self.__dict__.get("_owners", {})
        if name in owners:
            owner, path = owners[name]
            *parents, own_name = path.split(".")
            for parent in parents:
                owner = getattr(owner, parent)
            setattr(owner, own_name, value)

    def forward(
        self,
        x: Any,
        state: Any = None,
        *,
        lengths: Any = None,
        reset: Any = None,
        reset_state: Any = None,
        return_sequences: bool = True,
        return_steps: bool = False,
    ) -> Any:
        first = self._layers[0][0]
        axes = "(N, T, I)" if self.batch_first else "(T, N, I)"
        x = check_tensor("x", x, first.dtype, {2: "(T, I)", 3: axes}, last=self.input_size)
        batch = 0 if self.batch_first else 1
        single = x.ndim == 2
        if single:
            x = x.unsqueeze(batch)
            lengths = None if lengths is None else np.reshape(np.asarray(lengths), (1,))
            reset = None if reset is None else np.expand_dims(np.asarray(reset), batch)
        shape = x.shape
        T, N = shape[1 - batch], shape[batch]
        states = self._states_of_layers("", state, N, single)
        restarts = self._states_of_layers("reset_state: ", reset_state, N, single)
        options = self._options(make_schedule(T, N, lengths, reset, self.batch_first))
        results: list[Result] = []
        y: Tensor = x
        for layer, cells in enumerate(self._layers):
            if layer > 0:
                y = self._input_of_next(y, cells[0])
            for cell in cells:
                if cell.training is not self.training:
                    cell.train(self.training)
            if layer == self.num_layers - 1 and not return_sequences:
                options = replace(options, sequences=False)
            if return_steps and not options.steps:
                options = replace(options, steps=True)
            result = run_checked_layer(cells, y, states[layer], restarts[layer], options)
            results.append(result)
            y = result.y
        last = results[0].final
        if self.num_layers > 1:
            finals = [result.final for result in results]
            last = tuple([ops.cat(list(parts), 0) for parts in zip(*finals, strict=True)])
        merged = self._merged(y.squeeze(0 if not return_sequences else batch) if single else y)
        final = first.pack_state(tuple([each.squeeze(1) for each in last]) if single else last)
        if not return_steps:
            return merged, final
        steps = {
            name: tuple([
                result.steps[i].squeeze(batch) if single else result.steps[i]  # type: ignore[index]
                for result in results
            ])
            for i, name in enumerate(first.state_names)
        }
        return merged, final, steps

    def _options(self, schedule: Schedule | None) -> Options:
        if schedule is None and self.memory == "full":
            return PLAIN[self.batch_first]
        memory = bytes_of(self.memory)
        share = None if memory is None else max(1, memory // self.num_layers)
        return Options(self.batch_first, schedule, memory=share)

    def _input_of_next(self, y: Tensor, cell: Cell) -> Tensor:
        """The input of a layer above the first, from the outputs of the one below."""
        if self.merge in ("sum", "mean"):
            y = self._merged(y)
        axes = "(N, T, I)" if self.batch_first else "(T, N, I)"
        y = check_tensor("x", y, cell.dtype, {3: axes}, last=cell.input_size)
        return ops.dropout(y, self.dropout) if self.dropout > 0 and self.training else y

    def _merged(self, y: Tensor) -> Any:
        """Both directions as ``merge`` asks for, from both side by side."""
        if not self.bidirectional or self.merge == "concat":
            return y
        forward, reverse = y.chunk(2, -1)
        if self.merge == "separate":
            return forward, reverse
        total = forward + reverse
        return total if self.merge == "sum" else total * 0.5

    def stream(self, batch_size: int = 1) -> Stepper:
        """A stepper that owns a state and takes one step, or a block of them, at each call.

        Args:
            batch_size: N, the number of sequences that go on side by side.

        Raises:
            ArgumentError: the module is bidirectional: the reverse direction begins at the end of
                the sequence, which a stream never knows.
        """
        if self.bidirectional:
            raise ArgumentError(
                "stream: a bidirectional module cannot stream: its reverse direction begins at "
                "the end of the sequence"
            )
        return Stepper([cells[0] for cells in self._layers], batch_size)

    def _states_of_layers(self, prefix: str, state: Any, N: int, single: bool) -> list[Any]:
        """The initial state of each layer, checked; None where the cells shall choose."""
        if state is None:
            return [None] * self.num_layers
        first = self._layers[0][0]
        L, D = self.num_layers, len(self._layers[0])
        batch = (L * D,) if single else (L * D, N)
        given = first.unpack_state(state)
        checked = [
            check_tensor(prefix + name, value, first.dtype, shape=batch + shape)
            for name, value, shape in zip(
                first.state_names, given, first.state_shapes, strict=True
            )
        ]
        if single:
            checked = [each.unsqueeze(1) for each in checked]
        if L == 1:
            return [tuple(checked)]
        return [tuple(each[k * D : (k + 1) * D] for each in checked) for k in range(L)]

    def extra_repr(self) -> str:
        cell = self._layers[0][0]
        # The built-in modules read as in PyTorch: sizes, num_layers, then the cell's own options.
        parts = [repr(cell)] if type(self) is Recurrent else cell.extra_repr().split(", ")
        layers = [f"num_layers={self.num_layers}"] if self.num_layers != 1 else []
        own = [
            f"{name}={getattr(self, name)}"
            for name in ("batch_first", "dropout", "bidirectional")
            if getattr(self, name)
        ]
        own += [f"merge={self.merge}"] if self.merge != "concat" else []
        own += [f"memory={self.memory}"] if self.memory != "full" else []
        return ", ".join(parts[:2] + layers + parts[2:] + own)


class RNN(Recurrent):
    """The simple recurrent network (Elman 1990), with the arguments of ``torch.nn.RNN``.

        h' = tanh(W_ih x + b_ih + W_hh h + b_hh)        or relu in place of tanh

    Called as ``y, h = rnn(x, h)``; shapes, options and errors as in ``Recurrent``.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        nonlinearity: "tanh" or "relu".
        bias: whether there are ``bias_ih`` and ``bias_hh``.
        batch_first, dropout, bidirectional, merge, memory: as in ``Recurrent``.
        dtype: float32 or float64.

    Parameters of layer k, drawn from U(-1/sqrt(H), 1/sqrt(H)): weight_ih_l{k} (H, I), or (H, D*H)
    above the first layer, weight_hh_l{k} (H, H), bias_ih_l{k} and bias_hh_l{k} (H,); the reverse
    direction's end in ``_reverse``.

    Memory of a native training step, per layer and direction: the output y (H numbers per step and
    row) and nothing else until backward, which needs as much again for the gradients of the gates.
    Under ``no_grad`` nothing is kept per step beyond the output.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        merge: str = "concat",
        memory: str | int = "full",
        dtype: Any = np.float32,
    ) -> None:
        cell = RNNCell(input_size, hidden_size, bias, nonlinearity, dtype=dtype)
        super().__init__(
            cell, num_layers, batch_first, dropout, bidirectional, merge=merge, memory=memory
        )
        self.bias = cell.bias
        self.nonlinearity = cell.nonlinearity


class GRU(Recurrent):
    """The gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), as ``torch.nn.GRU``.

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))       reset_after=True, PyTorch's dialect
        n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)       reset_after=False, the original
        h' = (1 - z) * n + z * h

    Called as ``y, h = gru(x, h)``; shapes, options and errors as in ``Recurrent``.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bias: whether there are ``bias_ih`` and ``bias_hh``.
        batch_first, dropout, bidirectional, merge, memory: as in ``Recurrent``.
        reset_after: which of the two dialects; weights of one are not weights of the other.
        dtype: float32 or float64.

    Parameters of layer k, gates stacked r, z, n, drawn from U(-1/sqrt(H), 1/sqrt(H)):
    weight_ih_l{k} (3*H, I), or (3*H, D*H) above the first layer, weight_hh_l{k} (3*H, H),
    bias_ih_l{k} and bias_hh_l{k} (3*H,); the reverse direction's end in ``_reverse``.

    Memory of a native training step, per layer and direction: 4*H numbers per step and row beside
    the output y, with H rounded up to whole vectors (the gates, and the recurrent product or the
    reset state); backward works in the same memory. Under ``no_grad`` nothing is kept per step
    beyond the output.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
        merge: str = "concat",
        memory: str | int = "full",
        dtype: Any = np.float32,
    ) -> None:
        cell = GRUCell(input_size, hidden_size, bias, reset_after=reset_after, dtype=dtype)
        super().__init__(
            cell, num_layers, batch_first, dropout, bidirectional, merge=merge, memory=memory
        )
        self.bias = cell.bias
        self.reset_after = cell.reset_after


class LSTM(Recurrent):
    """The long short-term memory (Hochreiter and Schmidhuber 1997), as ``torch.nn.LSTM``.

        i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)
        f = sigmoid(W_if x + b_if + W_hf h + b_hf)
        g = tanh(W_ig x + b_ig + W_hg h + b_hg)
        o = sigmoid(W_io x + b_io + W_ho h + b_ho)
        c' = f * c + i * g
        h' = o * tanh(c')

    Called as ``y, (h, c) = lstm(x, (h, c))``; shapes, options and errors as in ``Recurrent``.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bias: whether there are ``bias_ih`` and ``bias_hh``.
        batch_first, dropout, bidirectional, merge, memory: as in ``Recurrent``.
        dtype: float32 or float64.

    Parameters of layer k, gates stacked i, f, g, o, drawn from U(-1/sqrt(H), 1/sqrt(H)):
    weight_ih_l{k} (4*H, I), or (4*H, D*H) above the first layer, weight_hh_l{k} (4*H, H),
    bias_ih_l{k} and bias_hh_l{k} (4*H,); the reverse direction's end in ``_reverse``.

    Memory of a native training step, per layer and direction: 5*H numbers per step and row beside
    the output y, with H rounded up to whole vectors (the gates and c); backward works in the same
    memory. Under ``no_grad`` nothing is kept per step beyond the output.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        merge: str = "concat",
        memory: str | int = "full",
        dtype: Any = np.float32,
    ) -> None:
        cell = LSTMCell(input_size, hidden_size, bias, dtype=dtype)
        super().__init__(
            cell, num_layers, batch_first, dropout, bidirectional, merge=merge, memory=memory
        )
        self.bias = cell.bias


def _check_probability(name: str, value: Any) -> float:
    number = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise ArgumentError(f"{name}: expected a probability from 0 to 1, got {value!r}")
    return float(value)
