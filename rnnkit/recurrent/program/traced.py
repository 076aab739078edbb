"""One traced step of a cell, with its gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rnnkit import rng
from rnnkit.autograd import Tensor, grad
from rnnkit.autograd.grad_mode import enable_grad
from rnnkit.errors import RnnkitError, TraceError
from rnnkit.module import Module
from rnnkit.recurrent.program.trace import ROWS, TracedArray, Tracer
from rnnkit.recurrent.program.values import Value

if TYPE_CHECKING:
    from rnnkit.cells import Cell


def tensors_of(module: Module) -> dict[str, Tensor]:
    """Every tensor that a module and its submodules hold, by path."""
    found: dict[str, Tensor] = {}
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, Module):
            found |= {f"{name}.{path}": tensor for path, tensor in tensors_of(value).items()}
    return found


def attribute(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


def settings_of(module: Module) -> tuple[Any, ...]:
    """What else a step may depend on: the plain attributes of a cell and its submodules."""
    found: list[Any] = []
    for name, value in vars(module).items():
        if isinstance(value, Module):
            found.append((name, settings_of(value)))
        elif isinstance(value, Tensor):
            found.append((name, value.shape, value.dtype.char))
        elif isinstance(value, (bool, int, float, str, type(None))):
            found.append((name, value))
        elif name not in ("_kinds", "_arguments", "_shapes", "_original"):
            found.append((name, _setting(value)))
    return tuple(found)


def _setting(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple([_setting(item) for item in value])
    return value if isinstance(value, (bool, int, float, str, type(None))) else id(value)


class TracedStep:
    """A cell's step as operations on rows.

    Attributes:
        x: the input of a step; states: before the step; drawn: what a run draws.
        y: the output; after: the states after the step.
        hoisted: inputs of every step that are computed from x, what is drawn and invariants.
        inputs: all inputs of every step.
        tracer: what there is beside.

    Raises:
        TraceError: the step does what no program can do; the message names the line.
    """

    def __init__(self, cell: Cell, hoists: bool = True) -> None:
        self.cell_tensors = {id(t): path for path, t in tensors_of(cell).items()}
        dtype = cell.dtype
        self.tracer = tracer = Tracer(dtype, hoists)
        tracer.train(list(tensors_of(cell).values()))
        settings, generator = settings_of(cell), rng.get_state()
        drawn = cell.draw(1, 1)
        after_draw = rng.get_state()
        x = tracer.leaf("sequence", (cell.input_size,), "x", serial=False)
        states = [
            tracer.leaf("state", shape, name, number=i)
            for i, (name, shape) in enumerate(zip(cell.state_names, cell.state_shapes, strict=True))
        ]
        drawn_leaves = [
            tracer.leaf("sequence", each.shape[2:], f"drawn{i}", serial=False)
            for i, each in enumerate(drawn)
        ]
        step: Any = cell.step
        try:
            with enable_grad(), tracer:
                result = step(x, tuple(states), *drawn_leaves)
        except TraceError:
            raise
        except (RnnkitError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise TraceError(f"the step cannot be traced: {error}") from error
        finally:
            draws = rng.get_state() != after_draw
            rng.set_state(generator)  # the run draws for itself
        if settings_of(cell) != settings:
            raise TraceError("the step changes the cell's attributes")
        if draws:
            raise TraceError("the step draws from the generator: that is what draw() is for")
        self.x = tracer.value_of(x)
        self.states = [tracer.value_of(state) for state in states]
        self.drawn = [tracer.value_of(each) for each in drawn_leaves]
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], tuple):
            raise TraceError("the step must return its output and a tuple of states")
        y, after = result
        if len(after) != len(states):
            raise TraceError(f"the step returns {len(after)} states, expected {len(states)}")
        self._y = self._with_rows("output", y, (cell.output_size,))
        self._after = [
            self._with_rows(name, state, shape)
            for name, state, shape in zip(cell.state_names, after, cell.state_shapes, strict=True)
        ]
        self.y = tracer.value_of(self._y)
        self.after = [tracer.value_of(state) for state in self._after]
        self._x, self._states = x, states
        self.forward_end = len(tracer.operations)
        self.hoisted = [
            v for v in tracer.sequences if v is not self.x and v not in self.drawn
        ]
        self.inputs = list(tracer.sequences)

    def _with_rows(self, name: str, tensor: Any, shape: tuple[int, ...]) -> Tensor:
        if not isinstance(tensor, Tensor):
            raise TraceError(f"{name}: expected a Tensor, got {type(tensor).__name__}")
        value = self.tracer.value_of(tensor)
        got = value.shape
        if value.rows is None and got[:1] == (ROWS,):
            got = got[1:]
        if got != shape or value.rows not in (None, "first"):
            raise TraceError(f"{name}: expected rows of shape {shape}, got {got}")
        if value.rows is None:
            from rnnkit.recurrent.program.rows import _without_batch

            row = _without_batch(self.tracer, name, value, len(shape))
            return self.tracer.tensor(self.tracer.emit("copy", [row], shape))
        if type(tensor._data) is not TracedArray:
            raise TraceError(f"{name}: does not depend on the step's input")
        return tensor

    def gradients(self, d_y: bool, d_steps: tuple[bool, ...]) -> Gradients:
        """The backward program's values, where the output and some states of every step have
        gradients of their own."""
        return Gradients(self, d_y, d_steps)


class Gradients:
    """Gradients of a traced step.

    Attributes:
        d_y, d_steps: inputs of every step: gradients of y and of the states of every step, or None.
        flow: gradients of the states after the step, from the steps after it.
        of: by value (state, sequence or invariant): its gradient, or None.
    """

    def __init__(self, traced: TracedStep, d_y: bool, d_steps: tuple[bool, ...]) -> None:
        tracer = traced.tracer
        n_sequences = len(tracer.sequences)
        self.d_y: Value | None = None
        self.d_steps: list[Value | None] = [None] * len(traced.states)
        self.flow: list[Value] = []
        roots: list[Tensor] = []
        seeds: list[Tensor] = []
        tracer.backward = True
        with tracer:
            if d_y:
                seed = tracer.leaf("sequence", traced.y.shape, "d_y")
                self.d_y = tracer.value_of(seed)
                roots.append(traced._y)
                seeds.append(seed)
            for i, state in enumerate(traced._after):
                shape = traced.after[i].shape
                flow = tracer.leaf("flow", shape, f"d_{traced.states[i].name}", number=i)
                self.flow.append(tracer.value_of(flow))
                if d_steps[i]:
                    step = tracer.leaf("sequence", shape, f"d_{traced.states[i].name}_t")
                    self.d_steps[i] = tracer.value_of(step)
                    flow = flow + step
                roots.append(state)
                seeds.append(flow)
            # All that flows into the states after the step, for those who want to see it.
            after = [t for t in traced._after if t._requires_grad]
            targets = [
                *traced._states,
                *after,
                *[t for t in tracer._alive if _is_wanted(t, n_sequences)],
            ]
            targets = list({id(t): t for t in targets}.values())
            used = [
                (r, s) for r, s in zip(roots, seeds, strict=True) if r._requires_grad
            ]
            found: Any = [None] * len(targets)
            if used:
                found = grad(
                    [r for r, _ in used], targets, [s for _, s in used], create_graph=True,
                    allow_unused=True,
                )
            self.of: dict[Value, Value | None] = {
                tracer.value_of(target): None if d is None else tracer.value_of(d)
                for target, d in zip(targets, found, strict=True)
            }
        tracer.backward = False


def _is_wanted(tensor: Any, n_sequences: int) -> bool:
    """Whether a tensor is an input of the step whose gradient can be asked for."""
    data = tensor._data
    if type(data) is not TracedArray or not tensor._requires_grad or tensor.grad_fn is not None:
        return False
    value = data.value
    if value.kind == "sequence":
        return value.number < n_sequences
    return value.kind == "invariant"

