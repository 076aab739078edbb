"""For every differentiable primitive, calls whose derivatives are checked by finite differences.

A case is a function of tensors and the tensors to call it with. Sizes are odd and unequal, so that
a mixed-up axis cannot pass; values are distinct and keep a distance from every kink.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import rnnkit as rk
from rnnkit import PRIMITIVES, Tensor, losses


class Case(NamedTuple):
    label: str
    fn: Callable[..., Tensor | tuple[Tensor, ...]]
    inputs: tuple[Tensor, ...]
    eps: float = 1e-6


CASES: dict[str, list[Case]] = {}
_random = np.random.default_rng(20)


def numbers(*shape: int, low: float = -2.0, high: float = 2.0) -> Tensor:
    """Shuffled, equally spaced with jitter: no two values, and no value and 0, are very close."""
    count = int(np.prod(shape))
    step = (high - low) / (count + 1)
    values = low + step * (1 + np.arange(count) + _random.uniform(-0.2, 0.2, count))
    values += np.where(np.abs(values) < 0.02, 0.05, 0.0)
    return rk.tensor(_random.permutation(values).reshape(shape), requires_grad=True)


def positive(*shape: int) -> Tensor:
    return numbers(*shape, low=0.3, high=2.5)


def case(primitive: str, label: str, fn: Callable, *inputs: Tensor, eps: float = 1e-6) -> None:
    CASES.setdefault(primitive, []).append(Case(label, fn, inputs, eps))


# ---- elementwise

for _name in ("tanh", "sigmoid", "relu", "softplus", "exp", "expm1", "sin", "cos", "abs", "neg"):
    case(_name, "3x5", getattr(rk, _name), numbers(3, 5))
for _name in ("log", "sqrt"):
    case(_name, "3x5", getattr(rk, _name), positive(3, 5))
case("log1p", "3x5", rk.log1p, numbers(3, 5, low=-0.6, high=2.0))
case("square", "3x5", rk.square, numbers(3, 5))
case("tanh", "0-d", rk.tanh, numbers())
case("sigmoid", "no elements", rk.sigmoid, numbers(0, 3))
case("softplus", "beta", lambda x: rk.softplus(x, beta=2.5), numbers(7))

for _name in ("add", "sub", "mul", "maximum", "minimum"):
    _op = getattr(rk, _name)
    case(_name, "same shape", _op, numbers(3, 5), numbers(3, 5))
    case(_name, "broadcast both", _op, numbers(3, 1, 5), numbers(2, 1))
    case(_name, "number on the left", lambda x, op=_op: op(0.77, x), numbers(3))
    case(_name, "same tensor twice", lambda x, op=_op: op(x, x * 1.5), numbers(3))
case("div", "broadcast", rk.div, numbers(3, 5), positive(3, 1))
case("div", "number / tensor", lambda x: 1.5 / x, positive(4))
case("power", "tensor ** tensor", rk.pow, positive(3, 5), numbers(5))
case("power", "tensor ** 3", lambda x: x**3, numbers(4))
case("power", "2 ** tensor", lambda x: 2.0**x, numbers(4))
case("power", "exponent 0", lambda x: x**0.0 + x, numbers(4))

case("clip", "both bounds", lambda x: x.clip(-0.8, 0.9), numbers(11))
case("clip", "one bound", lambda x: rk.clip(x, max=0.3), numbers(11))
case(
    "where",
    "clip with tensor bounds",
    lambda x, low, high: rk.clip(x, low, high),
    numbers(11),
    numbers(1),
    positive(11),
)
_mask = np.array([[True, False, True], [False, False, True]])
case("where", "same shape", lambda a, b: rk.where(_mask, a, b), numbers(2, 3), numbers(2, 3))
case("where", "broadcast", lambda a, b: rk.where(_mask, a, b), numbers(3), numbers(4, 1, 1))
case("where", "number", lambda a: rk.where(_mask, a, 0.5), numbers(2, 3))

# ---- shape

case("clone", "2x3", rk.clone, numbers(2, 3))
# The step is as wide as it must be to show in float32.
case(
    "astype",
    "there and back",
    lambda x: x.astype(np.float32).astype(np.float64) * 1.5,
    numbers(2, 3),
    eps=2.0**-8,
)
case("broadcast_to", "repeated axes", lambda x: rk.broadcast_to(x, (4, 3, 5)), numbers(3, 1))
case("broadcast_to", "expand", lambda x: x.expand(2, -1, 4), numbers(3, 1))
case("sum_to", "lead and kept axes", lambda x: rk.sum_to(x, (1, 5)), numbers(2, 3, 5))
case("sum_to", "to 0-d", lambda x: rk.sum_to(x, ()), numbers(2, 3))
case("reshape", "with -1", lambda x: x.reshape(5, -1), numbers(3, 10))
case("reshape", "flatten", lambda x: x.flatten(1, 2), numbers(2, 3, 5))
case("reshape", "unsqueeze", lambda x: x.unsqueeze(-1), numbers(2, 3))
case("reshape", "squeeze", lambda x: x.squeeze(-2), numbers(2, 1, 3))
case("permute", "3 axes", lambda x: x.permute(2, 0, -2), numbers(2, 3, 5))
case("permute", "transpose", lambda x: x.transpose(-1, 0), numbers(2, 3, 5))
case("permute", "T", lambda x: x.T, numbers(2, 3, 5))
case("flip", "one axis", lambda x: x.flip(-1), numbers(2, 3))
case("flip", "all axes", lambda x: x.flip(), numbers(2, 3))
case("cat", "unequal sizes", lambda *xs: rk.cat(xs, -1), numbers(2, 3), numbers(2, 1))
case("cat", "same tensor twice", lambda x: rk.cat([x, x]), numbers(2, 3))
case("stack", "last axis", lambda *xs: rk.stack(xs, -1), numbers(2, 3), numbers(2, 3))
case("split", "equal sizes, one unused", lambda x: x.split(2, -1)[::2], numbers(3, 5))
case("split", "listed sizes", lambda x: x.split([1, 0, 3], 0), numbers(4, 2))
case("split", "chunk", lambda x: x.chunk(3, 1), numbers(2, 7))
case("unbind", "all", lambda x: x.unbind(1), numbers(2, 3, 2))
case("unbind", "some", lambda x: (x.unbind()[2], x.unbind()[0]), numbers(3, 2))
case("unbind", "1-d", lambda x: x.unbind(), numbers(3))

# ---- indexing

case("getitem", "int", lambda x: x[-2], numbers(3, 5))
case("getitem", "0-d", lambda x: x[1, 2], numbers(3, 5))
case("getitem", "slices", lambda x: x[::-2, None, ..., 1:4], numbers(5, 2, 5))
case("getitem", "overlapping", lambda x: x[1:] * x[:-1] + x[2], numbers(5))
case("getitem", "bools", lambda x: x[_mask], numbers(2, 3, 2))
case("getitem", "repeated ints", lambda x: x[[2, 0, 2, -1]], numbers(3, 5))
case("getitem", "repeated ints, 1-d", lambda x: x[np.array([[1, 1], [0, 1]])], numbers(4))
case("getitem", "array and slice", lambda x: x[:, [0, 2, 2], 1:], numbers(2, 3, 3))
case("getitem", "two arrays", lambda x: x[[[0], [1]], [0, 2, 2]], numbers(2, 3, 2))
case("getitem", "arrays apart", lambda x: x[[0, 1, 1], :, [2, 0, 0]], numbers(2, 2, 3))
case("getitem", "Tensor", lambda x: x[rk.tensor([1, 1, 0])], numbers(2, 3))
case("getitem", "no rows", lambda x: x[[]], numbers(2, 3))
case("gather", "axis 1", lambda x: x.gather(1, [[2, 2], [0, 1]]), numbers(3, 4))
case("gather", "sort", lambda x: x.sort(0).values, numbers(4, 3))
case("gather", "sort, descending", lambda x: x.sort(descending=True)[0], numbers(2, 5))
case("gather", "axis 0, of a part", lambda x: rk.gather(x, -2, [[1, 0, 1]]), numbers(2, 3))
case("gather", "topk", lambda x: x.topk(2, 1).values, numbers(3, 4, 2))
case(
    "scatter",
    "adjoint of gather",
    lambda x: PRIMITIVES["scatter"](x, rk.tensor([[0, 2, 2]]), axis=1, shape=(2, 4)),
    numbers(1, 3),
)
case("getitem", "embedding", lambda w: rk.embedding([[1, 4, 1], [0, 1, 3]], w), numbers(5, 3))
case(
    "put",
    "adjoint of slices",
    lambda *parts: PRIMITIVES["put"](*parts, keys=(slice(1, None), np.array([0, 0])), shape=(3,)),
    numbers(2),
    numbers(2),
)

# ---- noise


def _dropped(x):
    rk.manual_seed(1)
    return rk.dropout(x, 0.4)


case("dropout", "one mask", _dropped, numbers(3, 5))

# ---- reductions

for _name in ("sum", "mean", "max", "min", "logsumexp"):
    _op = getattr(rk, _name)
    case(_name, "all", _op, numbers(3, 5))
    case(_name, "negative axis", lambda x, op=_op: op(x, -2), numbers(2, 3, 5))
    case(_name, "two axes", lambda x, op=_op: op(x, (0, -1)), numbers(2, 3, 5))
    case(_name, "keepdims", lambda x, op=_op: op(x, -1, keepdims=True), numbers(2, 3))
    case(_name, "0-d", _op, numbers())
case("sum", "no elements", lambda x: x.sum(0), numbers(0, 3))
case("sum", "var", lambda x: x.var(-1), numbers(3, 5))
case("sum", "var of all, biased", lambda x: x.var(correction=0), numbers(3, 5))
case("norm", "std", lambda x: x.std((0, 1), keepdims=True), numbers(3, 5))
case("norm", "keepdims", lambda x: x.norm(axis=-1, keepdims=True), numbers(3, 5))
case("norm", "two axes", lambda x: x.norm(axis=(0, 2)), numbers(2, 3, 4))
case("norm", "no elements", lambda x: x.norm(axis=0), numbers(0, 3))
case("sum", "norm 1", lambda x: x.norm(1, 0), numbers(3, 5))
case("max", "norm inf", lambda x: x.norm(float("inf")), numbers(3, 5))
case("cumsum", "axis", lambda x: x.cumsum(-2), numbers(3, 5))
case("cumprod", "axis", lambda x: x.cumprod(-2), numbers(4, 3))
_zeros = rk.tensor([[1.5, 0.0, -0.7, 0.0], [0.0, 0.8, 0.0, 1.2]], "float64", requires_grad=True)
case("cumprod", "zeros", lambda x: x.cumprod(1), _zeros)
case("cumprod", "one element", lambda x: x.cumprod(1), numbers(3, 1))
case("cumprod", "no elements", lambda x: x.cumprod(0), numbers(0, 3))
case(
    "recurrence",
    "axis",
    lambda a, b: PRIMITIVES["recurrence"](a, b, axis=1),
    numbers(2, 4),
    numbers(2, 4),
)

# ---- products

case("matmul", "2-d", rk.matmul, numbers(2, 3), numbers(3, 5))
case("matmul", "1-d @ 1-d", rk.matmul, numbers(3), numbers(3))
case("matmul", "1-d @ 2-d", rk.matmul, numbers(3), numbers(3, 2))
case("matmul", "3-d @ 1-d", rk.matmul, numbers(2, 2, 3), numbers(3))
case("matmul", "1-d @ 3-d", rk.matmul, numbers(3), numbers(2, 3, 2))
case("matmul", "3-d @ 2-d", rk.matmul, numbers(2, 2, 3), numbers(3, 2))
case("matmul", "2-d @ 3-d", rk.matmul, numbers(2, 3), numbers(2, 3, 2))
case("matmul", "broadcast", rk.matmul, numbers(2, 1, 1, 3), numbers(3, 3, 2))
case("matmul", "transposed", lambda a, b: a.T @ b.T, numbers(3, 2), numbers(4, 3))
case("matmul", "inner size 0", rk.matmul, numbers(2, 0), numbers(0, 3))
case("linear", "2-d", rk.linear, numbers(4, 3), numbers(2, 3), numbers(2))
case("linear", "1-d, no bias", rk.linear, numbers(3), numbers(2, 3))
case("linear", "3-d", rk.linear, numbers(2, 2, 3), numbers(3, 3), numbers(3))
case("linear", "no rows", rk.linear, numbers(0, 3), numbers(2, 3), numbers(2))

case("mul", "outer", rk.outer, numbers(3), numbers(2))
for _primitive, _subscripts, *_shapes in (
    ("matmul", "ij,jk->ki", (2, 3), (3, 4)),
    ("mul", "i,j", (2,), (3,)),
    ("matmul", "tnh,snh->nts", (2, 3, 2), (4, 3, 2)),
    ("einsum", "bi,kij,bj->bk", (2, 3), (2, 3, 2), (2, 2)),
    ("mul", "iji,k->jk", (2, 3, 2), (4,)),
    ("mul", "ij,k->k", (2, 3), (2,)),
    ("mul", "ij,jk", (3, 1), (2, 4)),
    ("matmul", "...i,...ij->...j", (3, 2), (4, 1, 2, 3)),
    ("mul", ",i->i", (), (3,)),
    ("einsum", "ij,ij->", (2, 3), (2, 3)),
    ("einsum", "nij,jin->n", (2, 3, 2), (2, 3, 2)),
    ("matmul", "ij,jk->ik", (2, 0), (0, 3)),
    ("matmul", "abcd,cbe->eda", (2, 3, 2, 2), (2, 3, 2)),
):
    case(
        _primitive,
        f"einsum {_subscripts}",
        lambda *xs, subscripts=_subscripts: rk.einsum(subscripts, *xs),
        *[numbers(*shape) for shape in _shapes],
    )
case("einsum", "same tensor twice", lambda x: rk.einsum("ni,in->n", x, x.T * x.T), numbers(3, 2))
case("permute", "einsum", lambda x: rk.einsum("iji->ji", x), numbers(2, 3, 2))

# ---- normalisation

for _name in ("softmax", "log_softmax"):
    _op = getattr(rk, _name)
    case(_name, "last axis", _op, numbers(3, 5))
    case(_name, "first axis", lambda x, op=_op: op(x, -3), numbers(3, 2, 2))
case("layer_norm", "no parameters", lambda x: rk.layer_norm(x, 5), numbers(3, 5))
case(
    "layer_norm",
    "weight and bias",
    lambda x, w, b: rk.layer_norm(x, 4, w, b),
    numbers(3, 4),
    numbers(4),
    numbers(4),
)
case(
    "layer_norm",
    "two axes, eps",
    lambda x, w: rk.layer_norm(x, (2, 3), w, eps=0.1),
    numbers(2, 2, 3),
    numbers(2, 3),
)
case("layer_norm", "bias only", lambda x, b: rk.layer_norm(x, 3, bias=b), numbers(2, 3), numbers(3))

# ---- fused losses

_targets = np.array([[2, 0, -100], [1, 1, 4]])
_class_weights = [0.5, 2.0, 1.0, 0.25, 1.5]
for _label, _options in {
    "plain": {},
    "every row": {"reduction": "none"},
    "smoothed, weighted": {"label_smoothing": 0.2, "weight": _class_weights},
}.items():
    for _name in ("cross_entropy", "cross_entropy_gradient"):

        def _loss(x, options=_options):
            return losses.cross_entropy(x, _targets, **options)

        def _slope(x, options=_options):
            with rk.enable_grad():
                loss = losses.cross_entropy(x, _targets, **options).sum()
                return rk.grad(loss, x, create_graph=True)[0]

        case(_name, _label, _loss if _name == "cross_entropy" else _slope, numbers(2, 3, 5))

case(
    "binary_cross_entropy",
    "both",
    lambda p, y: losses.binary_cross_entropy(p, y, reduction="none"),
    numbers(3, 2, low=0.05, high=0.95),
    numbers(3, 2, low=0.05, high=0.95),
)


def _odds(p):
    with rk.enable_grad():
        y = rk.ones_like(p, requires_grad=True)
        loss = losses.binary_cross_entropy(p, y, reduction="sum")
        return rk.grad(loss, y, create_graph=True)[0]


case("log_odds_against", "of the target", _odds, numbers(5, low=0.1, high=0.9))
