"""Every primitive that can be part of a program, on rows of odd sizes: natively as on the tape."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn, ops
from rnnkit.recurrent import run_layer
from rnnkit.recurrent.held import held_by
from rnnkit.recurrent.program.rows import RULES
from rnnkit.recurrent.program.run import traced

pytestmark = pytest.mark.usefixtures("native")

BOTH = pytest.mark.parametrize("dtype", ["float32", "float64"])
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, 2.0, -3.7, 1e-30, -1e30, 1e30]


class Applied(rk.Cell):
    """y = f(x, h, w), of an input and the one before it, which is the state h.

    Args:
        f: takes x and h, (N, H), and the parameter w, (H,); gives (N, ...).
        H: of the row.
    """

    def __init__(self, f, H, dtype):
        super().__init__(H, H)
        self.f = f
        random = np.random.default_rng(H)
        self.w = nn.Parameter(random.uniform(0.5, 1.5, H).astype(dtype))
        with rk.backend("python"):
            rows = f(*[rk.as_tensor(np.ones((2, H), dtype))] * 2, self.w)
        self.width = int(np.prod(rows.shape[1:]))

    @property
    def output_size(self):
        return self.width

    def step(self, x, state):
        y = self.f(x, state[0], self.w)
        if y.dtype != x.dtype:
            y = y.astype(x.dtype)
        return y.reshape(-1, self.width), (x,)


def truth(condition, x):
    return ops.where(condition, x, 2.0)


def count(condition):
    return condition.sum(-1, keepdims=True)


def halves(x):
    return x.reshape(-1, 2, 15)


def boxes(x):
    return x.reshape(-1, 3, 10)


def cubes(x):
    return x.reshape(-1, 2, 3, 5)


def quads(x):
    return x[:, :24].reshape(-1, 2, 3, 2, 2)


SHUFFLED = np.random.default_rng(0).permutation(30)

ELEMENTWISE = {
    "neg": lambda x, h, w: -h,
    "abs": lambda x, h, w: ops.abs(h),
    "sign": lambda x, h, w: ops.sign(h) * x,
    "floor": lambda x, h, w: ops.floor(h) * x,
    "square": lambda x, h, w: ops.square(h),
    "sqrt": lambda x, h, w: ops.sqrt(h),
    "exp": lambda x, h, w: ops.exp(h),
    "expm1": lambda x, h, w: ops.expm1(h),
    "log": lambda x, h, w: ops.log(h),
    "log1p": lambda x, h, w: ops.log1p(h),
    "sin": lambda x, h, w: ops.sin(h),
    "cos": lambda x, h, w: ops.cos(h),
    "tanh": lambda x, h, w: ops.tanh(h),
    "sigmoid": lambda x, h, w: ops.sigmoid(h),
    "relu": lambda x, h, w: ops.relu(h),
    "softplus": lambda x, h, w: ops.softplus(h),
    "softplus of two": lambda x, h, w: ops.softplus(h, 2.0),
    "isfinite": lambda x, h, w: truth(ops.isfinite(h), x),
    "isnan": lambda x, h, w: truth(ops.isnan(h), x),
    "astype": lambda x, h, w: ops.isnan(h),
    "logical_not": lambda x, h, w: truth(ops.logical_not(h > 0), x),
    "add": lambda x, h, w: x + h,
    "sub": lambda x, h, w: x - h,
    "mul": lambda x, h, w: x * h,
    "div": lambda x, h, w: x / h,
    "maximum": lambda x, h, w: ops.maximum(x, h),
    "minimum": lambda x, h, w: ops.minimum(x, h),
    "power": lambda x, h, w: x ** h,
    "a whole power": lambda x, h, w: h**3,
    "equal": lambda x, h, w: truth(ops.equal(x, h), x),
    "not_equal": lambda x, h, w: truth(ops.not_equal(x, h), x),
    "less": lambda x, h, w: truth(x < h, x),
    "less_equal": lambda x, h, w: truth(x <= h, x),
    "greater": lambda x, h, w: truth(x > h, x),
    "greater_equal": lambda x, h, w: truth(x >= h, x),
    "logical_and": lambda x, h, w: truth(ops.logical_and(x > 0, h > 0), x),
    "logical_or": lambda x, h, w: truth(ops.logical_or(x > 0, h > 0), x),
    "logical_xor": lambda x, h, w: truth(ops.logical_xor(x > 0, h > 0), x),
    "signs between truths": lambda x, h, w: truth((x > 0) & (h > 0) | ~(x < h) ^ (h < 1), x),
    "add of truths": lambda x, h, w: x * ((x > -1) + (h > -1)),
    "add of true": lambda x, h, w: truth((h > 0) + True, x),
    "mul of truths": lambda x, h, w: truth((x > 0) * (h > 0), x),
    "maximum of truths": lambda x, h, w: x * (ops.maximum(x > -1, h > -1) + (x > 1)),
    "minimum of truths": lambda x, h, w: truth(ops.minimum(x > -1, h > -1), x),
    "where of truths": lambda x, h, w: truth(ops.where(x > 0, h > 0, x > 1), x),
    "truths that are counted": lambda x, h, w: (
        x * ((h > 0).sum(-1, keepdims=True) - 2 * (x > 0) + ops.where(x > h, 3, 4))
    ),
    "truths of parts": lambda x, h, w: (
        x * ((h > 0).reshape(-1, 1, 37)[:, 0] + ops.max(x > 2, 1, keepdims=True))
    ),
    "where": lambda x, h, w: ops.where(x > h, x, h),
    "clip": lambda x, h, w: ops.clip(h, -1.0, 2.0),
    "clip between limits that cross": lambda x, h, w: x * ops.clip(h, 0.5, -0.5),
    "clip from below": lambda x, h, w: ops.clip(h, min=-1.0),
    "clip from above": lambda x, h, w: ops.clip(h, max=0.5),
    "clip to a NumPy number": lambda x, h, w: ops.clip(h, max=np.float32(0.5)),
    "clip to tensors": lambda x, h, w: ops.clip(h, -0.5 * w, x),
    "clone": lambda x, h, w: h.clone() * x,
    "muladd": lambda x, h, w: x * h + w,
    "a product to add to itself": lambda x, h, w: x * h + x * h,
    "1 - h * h": lambda x, h, w: x * (1.0 - h * h),
    "h * (1 - h)": lambda x, h, w: x * (h * (1.0 - h)),
} | {
    f"{f.__name__} of integers": lambda x, h, w, f=f: x * f(count(h > 0), 3 * (x > 0))
    for f in (ops.add, ops.sub, ops.mul, ops.maximum, ops.minimum)
} | {
    f"{f.__name__} of integers": lambda x, h, w, f=f: x * f(count(h > 0) - 18)
    for f in (ops.neg, ops.abs, ops.square)
}

BROADCAST = {
    "numbers": lambda x, h, w: 2.0 - (3.0 * h + 1.0) / 4.0,
    "a parameter": lambda x, h, w: h * w + w / x,
    "a parameter first": lambda x, h, w: w - h,
    "one number of the parameter": lambda x, h, w: h * w[0] + w[3:4],
    "a parameter that is computed": lambda x, h, w: h * ops.exp(w) - ops.sum(w),
    "a parameter with an axis": lambda x, h, w: h * w.reshape(1, -1),
    "(N, 1)": lambda x, h, w: h * x[:, :1] + h[:, 4:5] * w,
    "(N, 1) of both": lambda x, h, w: (x[:, :1] * h[:, 1:2]) + w,
    "a scalar for each row": lambda x, h, w: h * x[:, 3].unsqueeze(1),
    "(N, a, 1) x (N, 1, b)": lambda x, h, w: x[:, :3].unsqueeze(2) * h[:, :5].unsqueeze(1),
    "(N, a, b) x (b,)": lambda x, h, w: boxes(h) * w[:10],
    "(N, a, b) x (a, 1)": lambda x, h, w: boxes(h) * w[:3].unsqueeze(1) + x[:, :1].unsqueeze(2),
    "(N, a, b) x (N, 1, b)": lambda x, h, w: ops.maximum(boxes(h), boxes(x)[:, 1:2]),
    "(N, a, b, c) x (N, a, 1, c)": lambda x, h, w: cubes(h) / cubes(x)[:, :, 1:2],
    "broadcast_to": lambda x, h, w: h[:, :1].broadcast_to((h.shape[0], 9)) * x[:, :9],
    "expand": lambda x, h, w: boxes(h)[:, :1].expand(-1, 4, -1) * w[:10],
    "zeros for the batch": lambda x, h, w: ops.where(h > 0, ops.zeros(h.shape, dtype=h.dtype), x),
    "zeros_like": lambda x, h, w: ops.maximum(ops.zeros_like(h), h) + ops.ones_like(x),
    "numbers for the batch": lambda x, h, w: h * (1.0 - ops.zeros_like(x)[:, :1]) + w,
    "a parameter for the batch": lambda x, h, w: h * ops.sigmoid(ops.zeros_like(h) + w),
    "a product for the batch": lambda x, h, w: (
        h[:, :5] * ops.linear(ops.ones_like(h)[:, :6], w.reshape(5, 6), w[:5])
    ),
    "numbers for the batch in a product of the input": lambda x, h, w: h[:, :1] * ops.linear(
        ops.cat([x[:, :2], ops.sigmoid(ops.zeros_like(x)[:, :3] + w[:3])], 1), w.reshape(6, 5)
    ),
    "any": lambda x, h, w: truth(ops.any(h > 1.5, -1, keepdims=True), x) * x + h,
    "all": lambda x, h, w: truth(ops.all(boxes(h) > -1.5, (1, 2)).unsqueeze(1), x) * x + h,
    "any and all of numbers": lambda x, h, w: (
        truth(ops.any(boxes(h).relu(), 1), x[:, :10])
        + truth(ops.all(boxes(x).relu(), 1), h[:, :10])
    ),
    "truths for the batch": lambda x, h, w: (
        truth(~rk.tensor(np.tile(np.arange(30) < 20, (len(x), 1))) & (h > 0), x)
    ),
}

SHAPES = {
    "reshape": lambda x, h, w: boxes(h * x).reshape(-1, 15, 2) * w.reshape(15, 2),
    "reshape with the batch's size": lambda x, h, w: h.reshape(h.shape[0], 5, 6) * 2.0,
    "flatten": lambda x, h, w: ops.flatten(boxes(h), 1) * x,
    "permute": lambda x, h, w: boxes(h).permute(0, 2, 1) * w[:3],
    "permute of three axes": lambda x, h, w: cubes(h).permute(0, 3, 1, 2) * w[:3],
    "permute, then reshape": lambda x, h, w: boxes(h).permute(0, 2, 1).reshape(-1, 30) * x,
    "transpose": lambda x, h, w: ops.transpose(cubes(h), 1, 3).reshape(-1, 30) + x * w,
    "flip": lambda x, h, w: ops.flip(h, -1) * x,
    "flip of a middle axis": lambda x, h, w: ops.flip(cubes(h), (1, 2)) * cubes(x),
    "slice": lambda x, h, w: h[:, 3:20] * x[:, 13:],
    "slice with steps": lambda x, h, w: h[:, 1::3] * x[:, 10:20],
    "slice backwards": lambda x, h, w: h[:, ::-2] * x[:, :15],
    "slice of boxes": lambda x, h, w: boxes(h)[:, 1:, 2:9:3] + boxes(x)[:, :2, -3:],
    "getitem of one": lambda x, h, w: boxes(h)[:, 2] * boxes(x)[:, :, 3].sum(1, keepdims=True),
    "getitem with dots": lambda x, h, w: boxes(h)[..., 3:5] * boxes(x)[:, None, -1, :2],
    "getitem of a truth": lambda x, h, w: h[:, True, :9].sum(1) * x[:, :9],
    "slices that overlap": lambda x, h, w: h[:, :20] * h[:, 10:] + h[:, 5:25],
    "parts of two sizes from one place": lambda x, h, w: (
        boxes(h)[:, :2, :2].sum(1).sum(1, keepdims=True) + boxes(h)[:, :2, :3].sum(1) * x[:, :3]
    ),
    "chunks of two sizes": lambda x, h, w: ops.cat([h.chunk(2, 1)[0], h.chunk(3, 1)[0]], 1) * 2.0,
    "a part of each of two sizes": lambda x, h, w: (
        (lambda a: ops.tanh(h * a)[:, :5] + ops.tanh(h[:, :9] * a)[:, :5])(x[:, :1])
    ),
    "split": lambda x, h, w: (lambda a, b, c: a * 2.0 + b * c)(*h.split([10, 10, 10], -1)),
    "split in unequal parts": lambda x, h, w: ops.cat(h.split([1, 12, 17], 1)[::-1], 1) * x,
    "chunk": lambda x, h, w: (lambda a, b: a * ops.sigmoid(b))(*h.chunk(2, -1)),
    "unbind": lambda x, h, w: (lambda a, b, c: a * b - c)(*boxes(h).unbind(1)),
    "unbind of the last axis": lambda x, h, w: sum(boxes(h)[:, :, :3].unbind(2)) * x[:, :3],
    "parts that make a whole": lambda x, h, w: (
        (lambda a: ops.tanh(a[:, :1]) * a[:, 1:12] + a[:, 12:23] * a[:, 23:24] - a[:, 24:25])(h * x)
    ),
    "odd and even ones": lambda x, h, w: (lambda a: ops.tanh(a[:, ::2]) * a[:, 1::2])(h * x),
    "blocks that make a whole": lambda x, h, w: (lambda a: (
        a[:, :2, :5] * a[:, 1:, 5:] + a[:, :1, 5:] * a[:, 2:, :5]
    ))(boxes(h * x)),
    "blocks, but not all": lambda x, h, w: (lambda a: a[:, :2, :5] * a[:, 1:, 5:])(boxes(h * x)),
    "a permutation": lambda x, h, w: (h * w)[:, SHUFFLED] * x,
    "a permutation of the input": lambda x, h, w: (
        x[:, SHUFFLED][:, :6] @ w.reshape(6, 5) + h[:, :5]
    ),
    "a list of indices, some twice": lambda x, h, w: (
        (h * w)[:, [3, -1, 3, 3, 7, 8, 9, 0]] * x[:, :8]
    ),
    "indices of the middle axis": lambda x, h, w: boxes(h * x)[:, [2, 0, 0]] * boxes(x),
    "indices beside slices": lambda x, h, w: cubes(h * x)[..., None, ::-1, [4, 2]] * w[:2],
    "indices of two axes": lambda x, h, w: (
        (h * w)[:, SHUFFLED.reshape(5, 6)] * x[:, :6].unsqueeze(1)
    ),
    "indices of several axes": lambda x, h, w: (
        cubes(h * x)[:, :, [0, 1, 1, 0], [2, 0, 4, 2]] * x[:, :4].unsqueeze(1)
    ),
    "indices beside an integer": lambda x, h, w: (
        cubes(h * x)[:, 1, [2, 0, 2]] * x[:, :5].unsqueeze(1)
    ),
    "truths of two axes": lambda x, h, w: (
        boxes(h * w)[:, SHUFFLED.reshape(3, 10) < 13]
        * boxes(x)[(slice(None), *np.eye(3, 10).nonzero())][:, :1]
    ),
    "gather": lambda x, h, w: (
        ops.gather(h * x, 1, np.tile([3, 0, 3], (len(h), 1))) * h[:, :3]
    ),
    "gather of the input": lambda x, h, w: (
        ops.gather(x, 1, np.tile(SHUFFLED[:6], (len(x), 1))) @ w.reshape(6, 5) + h[:, :5]
    ),
    "gather along a middle axis": lambda x, h, w: ops.gather(
        boxes(h * x), 1, np.tile([[[0, 1, 2], [2, 2, 1]]], (len(h), 1, 1))
    ),
    "rows up to the last": lambda x, h, w: h[0 : len(h), :5] * (x[: len(x), :6] @ w.reshape(6, 5)),
    "a parameter laid out for the batch": lambda x, h, w: (
        w.expand(len(h), -1) * h + w[:1].reshape(1, 1).expand(len(h), 30) * x
    ),
    "a matrix laid out for the batch": lambda x, h, w: (
        w.reshape(1, 3, 10).repeat(len(h), 1, 1) @ (h * x)[:, :10].unsqueeze(2)
    ),
    "a parameter as the output": lambda x, h, w: ops.broadcast_to(w, (len(h), 2, 30)),
    "rows of a table for the batch": lambda x, h, w: (
        ops.embedding(np.full((len(h), 2), 3), w.reshape(5, 6)).sum(1) * h[:, :6]
        + ops.embedding(np.zeros(len(h), int), w.reshape(5, 6), padding_idx=1) * x[:, :6]
    ),
    "truths of a constant": lambda x, h, w: (h * w)[:, SHUFFLED < 11] * x[:, :11],
    "a range of indices": lambda x, h, w: (h * w)[:, range(7, 20, 4)] * x[:, :4],
    "an index that is an array": lambda x, h, w: (h * x)[:, np.array(-1)].unsqueeze(1) * x,
    "repeat": lambda x, h, w: boxes(h).repeat(1, 1, 3) * w * x.repeat(1, 1).unsqueeze(1),
    "rows of four axes": lambda x, h, w: (
        ops.tanh(quads(h).permute(0, 4, 2, 1, 3)) * quads(x).permute(0, 4, 2, 1, 3)[:, ::-1]
    ),
    "a copy of four axes": lambda x, h, w: (
        quads(h * x).permute(0, 3, 1, 4, 2).reshape(-1, 24) * x[:, :24]
    ),
    "four axes of two broadcasts": lambda x, h, w: (
        x[:, :12].reshape(-1, 2, 1, 2, 3) * h[:, :10].reshape(-1, 1, 5, 2, 1)
    ),
    "cat": lambda x, h, w: ops.cat([h * x, x, h, ops.tanh(h)], -1),
    "cat with nothing": lambda x, h, w: sum(
        w[i] * ops.cat([(h * x)[:, i:], (h * x)[:, :i]], 1) for i in range(3)
    ),
    "cat of the same": lambda x, h, w: ops.cat([h, h, h], 1) * 3.0,
    "cat of a middle axis": lambda x, h, w: (
        ops.cat([boxes(h * x), boxes(x), halves(h)[:, :, :10]], 1)
    ),
    "cat of the last axis": lambda x, h, w: ops.cat([boxes(h * x), boxes(x)[:, :, :7]], 2),
    "cat with zeros": lambda x, h, w: (
        ops.cat([h * x, ops.zeros((h.shape[0], 3), dtype=h.dtype)], 1)
    ),
    "cat, then a product": lambda x, h, w: ops.cat([h, x], 1) @ ops.cat([w, w]).reshape(60, 1),
    "stack": lambda x, h, w: ops.stack([h * x, x, h], 1),
    "stack of the last axis": lambda x, h, w: ops.stack([h * x, x], 2) * 2.0,
    "stack of boxes": lambda x, h, w: ops.stack([boxes(h), boxes(x) * 2.0], 2),
    "unsqueeze and squeeze": lambda x, h, w: ops.squeeze(h.unsqueeze(1) * x.unsqueeze(1), 1),
    "sum_to": lambda x, h, w: ops.sum_to(boxes(h), (h.shape[0], 1, 10)) * boxes(x),
}

REDUCTIONS = {
    f"{name} over {axes}{' kept' * keeps}": (
        lambda x, h, w, name=name, axes=axes, keeps=keeps: (
            getattr(ops, name)(cubes(h * x), axes, keeps).reshape(h.shape[0], -1)
        )
    )
    for name in ("sum", "mean", "max", "min", "logsumexp")
    for axes, keeps in zip(
        (1, 2, 3, -1, (1, 2), (2, 3), (1, 3), (1, 2, 3)), [False, True] * 4, strict=True
    )
} | {
    f"{name} over {axis}": (
        lambda x, h, w, name=name, axis=axis: getattr(ops, name)(cubes(h * x), axis) * cubes(x)
    )
    for name in ("softmax", "log_softmax")
    for axis in (1, 2, 3, -1)
} | {
    "the maximum of a row": lambda x, h, w: h - ops.max(h, -1, True),
    "softmax of a row": lambda x, h, w: ops.softmax(h, -1) * x,
    "norms of pairs": lambda x, h, w: ops.norm(h.reshape(-1, 15, 2), axis=-1),
    "norm of a row": lambda x, h, w: ops.norm(h, axis=-1, keepdims=True) * x,
    "std": lambda x, h, w: ops.std(h, -1, keepdims=True) * x,
    "layer_norm": lambda x, h, w: ops.layer_norm(h, 30, w, w * 0.5) * x,
    "layer_norm of a part": lambda x, h, w: ops.layer_norm(boxes(h), 10, w[:10]),
    "layer_norm of two axes": lambda x, h, w: (
        ops.layer_norm(cubes(h), (3, 5), w[:15].reshape(3, 5), w[15:].reshape(3, 5))
    ),
    "sums over some of four axes": lambda x, h, w: ops.sum(quads(h * x), (2, 4), True) * quads(x),
    "a maximum within four axes": lambda x, h, w: (
        ops.max(quads(h * x).permute(0, 3, 1, 4, 2), 2) + ops.mean(quads(x)[:, :, ::2], 3)[..., :1]
    ),
    "a gradient of five axes": lambda x, h, w: (
        h[:, :4] + (h[:, :4, None, None, None] * w[:24].reshape(2, 4, 3)[None, None]).sum((1, 2, 4))
    ),
    "RMS norm": lambda x, h, w: h / ops.sqrt(ops.mean(h * h, -1, True) + 1e-3) * w,
}

PRODUCTS = {
    "matmul": lambda x, h, w: h @ w.reshape(30, 1),
    "matmul of a part": lambda x, h, w: h[:, 3:9] @ w.reshape(6, 5),
    "matmul of every other": lambda x, h, w: h[:, ::2] @ w.reshape(15, 2),
    "matmul with a transposed weight": lambda x, h, w: h[:, :6] @ w.reshape(5, 6).T,
    "matmul of the input": lambda x, h, w: (x[:, :10] @ w.reshape(10, 3)) * h[:, :3],
    "linear": lambda x, h, w: ops.linear(h[:, :10], w.reshape(3, 10), w[:3]),
    "linear without bias": lambda x, h, w: ops.linear(h * x, w.reshape(1, 30)),
    "linear of the input": lambda x, h, w: (
        ops.linear(x[:, :10], w.reshape(3, 10), w[:3]) * h[:, :3]
    ),
    "a product from the left": lambda x, h, w: (
        (w.reshape(5, 6) @ (h * x)[:, :6].T).T + (w[:4].reshape(4, 1) @ h[:, 7:8].T).T[:, :1]
        + (w.reshape(5, 6) @ x[:, :6].T).T
    ),
    "products one after the other": lambda x, h, w: (
        ops.tanh(h[:, :6] @ w.reshape(6, 5)) @ w.reshape(5, 6) + x[:, :6]
    ),
    "a product of a view that is copied": lambda x, h, w: (
        boxes(h).permute(0, 2, 1).reshape(-1, 30)[:, :6] @ w.reshape(6, 5) * x[:, :5]
    ),
    "products that are added": lambda x, h, w: (
        h[:, :6] @ w.reshape(6, 5) + x[:, :6] @ w.reshape(6, 5) + w[:5] + h[:, 10:15]
    ),
    "a product that is used twice": lambda x, h, w: (
        (lambda p: p * ops.sigmoid(p) + x[:, :5])(h[:, :6] @ w.reshape(6, 5))
    ),
    "einsum: a product": lambda x, h, w: ops.einsum("ni,ij->nj", h * x, w.reshape(30, 1)),
    "einsum: the weight first": lambda x, h, w: (
        ops.einsum("jk,nak->naj", w.reshape(3, 10), boxes(h))
    ),
    "einsum: two axes summed": lambda x, h, w: (
        ops.einsum("nab,abc->nc", boxes(h), w.reshape(3, 10, 1))
    ),
    "einsum: rows' own products": lambda x, h, w: ops.einsum("nab,ncb->nca", boxes(h), boxes(x)),
    "einsum: a row's own matrix and vector": lambda x, h, w: (
        ops.einsum("nab,nb->na", boxes(h), x[:, :10])
    ),
    "einsum: outer": lambda x, h, w: ops.einsum("na,nb->nba", h[:, :4], x[:, :5]),
    "einsum: dots": lambda x, h, w: ops.einsum("nab,nab->na", boxes(h), boxes(x)),
    "einsum: dots with axes permuted": lambda x, h, w: ops.einsum(
        "nab,nba->nb", boxes(h), boxes(x).permute(0, 2, 1)
    ) * w[:10],
    "einsum: three": lambda x, h, w: ops.einsum("nab,nb,nab->na", boxes(h), x[:, :10], boxes(x)),
    "einsum: a weight for each head": lambda x, h, w: ops.einsum(
        "nhd,hde->nhe", h[:, :15].reshape(-1, 5, 3), w.reshape(5, 3, 2)
    ),
    "einsum: a weight for each head, of a vector": lambda x, h, w: ops.einsum(
        "nd,hde->neh", h[:, :3] * x[:, :3], w.reshape(5, 3, 2)
    ),
    "einsum: a vector for each head": lambda x, h, w: (
        ops.einsum("ab,nab->na", w.reshape(3, 10), boxes(h))
    ),
    "einsum: a bilinear form": lambda x, h, w: ops.einsum(
        "ni,kij,nj->nk", x[:, :3], w.reshape(5, 3, 2), h[:, :2]
    ),
    "einsum: a product of low rank": lambda x, h, w: ops.einsum(
        "ri,ni,rj,nj,kr->nk", w[:6].reshape(2, 3), h[:, :3], w[:8].reshape(2, 4), x[:, :4],
        w[:10].reshape(5, 2),
    ),
    "einsum: two weights after each other": lambda x, h, w: ops.einsum(
        "nz,gyz,ghy->nhg", h[:, :2], w[:12].reshape(3, 2, 2), w.reshape(3, 5, 2)
    ),
    "einsum: a factor without letters": lambda x, h, w: (
        ops.einsum("ni,,nij->nj", h[:, :3], w[0], boxes(x))
    ),
    "einsum: dots of what is made for the batch": lambda x, h, w: ops.einsum(
        "nij,ni,kj->nk", boxes(h), ops.ones_like(x)[:, :3], w.reshape(3, 10)
    ),
    "einsum: all heads of two axes": lambda x, h, w: ops.einsum(
        "nabc,nabd,abcd->nab", cubes(h), cubes(x), ops.stack([w] * 5, 1).reshape(2, 3, 5, 5)
    ),
    "einsum: a weight for each head, of the input": lambda x, h, w: ops.einsum(
        "nhd,hde->nhe", x[:, :15].reshape(-1, 5, 3), w.reshape(5, 3, 2)
    ) * h[:, :1].unsqueeze(2),
    "a product of one column": lambda x, h, w: (boxes(h) @ w[:10].reshape(10, 1)) * boxes(x),
    "a product with a vector": lambda x, h, w: cubes(h * x) @ w[:5],
    "a product of one row": lambda x, h, w: w[:2].reshape(1, 2) @ cubes(h * x).permute(0, 2, 1, 3),
    "rows' own products": lambda x, h, w: boxes(h) @ boxes(x).permute(0, 2, 1),
    "rows' own products, plain": lambda x, h, w: boxes(h) @ x.reshape(-1, 10, 3),
    "a row's own matrix and vector": lambda x, h, w: boxes(h) @ x[:, :10].unsqueeze(2),
    "a row's own vector and matrix": lambda x, h, w: x[:, :3].unsqueeze(1) @ boxes(h),
    "a product of a matrix's rows": lambda x, h, w: boxes(h) @ w.reshape(10, 3),
    "a product of a matrix's columns": lambda x, h, w: w[:6].reshape(2, 3) @ boxes(h * x),
    "a product of a column": lambda x, h, w: w.reshape(3, 10) @ h[:, :10].unsqueeze(2),
    "a product of a matrix of one row": lambda x, h, w: h[:, None, :10] @ w.reshape(1, 10, 3),
    "a product for each head": lambda x, h, w: h[:, :10].reshape(-1, 5, 1, 2) @ w.reshape(5, 2, 3),
    "rows' own products for each head": lambda x, h, w: cubes(h) @ cubes(x).transpose(-1, -2),
    "rows' own products with one head": lambda x, h, w: cubes(h) @ cubes(x)[:, :1].transpose(2, 3),
    "linear of a matrix's rows": lambda x, h, w: ops.linear(boxes(h), w.reshape(3, 10), w[:3]),
    "linear of more axes": lambda x, h, w: ops.linear(cubes(h * x), w[:20].reshape(4, 5)),
    "products of a matrix of the input": lambda x, h, w: (
        (w[:6].reshape(2, 3) @ ops.linear(boxes(x), w.reshape(3, 10), w[:3])) * boxes(h)[:, :2, :3]
    ),
    "an outer product": lambda x, h, w: x[:, :3].unsqueeze(2) @ h[:, :10].unsqueeze(1),
}

# What depends on the order of elements.
ORDER = {
    "cumsum": lambda x, h, w: ops.cumsum(h * x, -1) * w,
    "cumsum of a middle axis": lambda x, h, w: ops.cumsum(cubes(h * x), 2) * cubes(x),
    "cumsum of truths": lambda x, h, w: ops.cumsum(h > x, 1) * x,
    "cumprod": lambda x, h, w: ops.cumprod(h * w, 1) * x,
    "cumprod of a middle axis": lambda x, h, w: ops.cumprod(boxes(h), 1) * boxes(x),
    "cumprod of one": lambda x, h, w: ops.cumprod(h[:, :1], 1) * x,
    "sort": lambda x, h, w: ops.sort(h).values * x,
    "sort, the greatest first": lambda x, h, w: ops.sort(h, descending=True).values * w,
    "sort of a middle axis": lambda x, h, w: ops.sort(cubes(h * x), 2).values * cubes(x),
    "sort with equal ones": lambda x, h, w: (
        (lambda s: s.values * x + s.indices)(ops.sort(ops.floor(h * 1.5), -1))
    ),
    "argsort": lambda x, h, w: ops.argsort(h) * x,
    "argsort, the greatest first": lambda x, h, w: ops.argsort(h, descending=True) * x,
    "an order and back": lambda x, h, w: (
        (lambda i: ops.cumprod(h.gather(1, i), 1).gather(1, ops.argsort(i)) * x)(ops.argsort(h))
    ),
    "topk": lambda x, h, w: (lambda k: k.values * x[:, :4] + k.indices)(ops.topk(h, 4)),
    "topk, the smallest of a middle axis": lambda x, h, w: (
        ops.topk(cubes(h), 2, 2, largest=False).values * cubes(x)[:, :, :2]
    ),
    "argmax": lambda x, h, w: ops.argmax(h, 1, keepdims=True) * x,
    "argmax of a middle axis": lambda x, h, w: ops.argmax(cubes(h), 2) * cubes(x)[:, :, 0],
    "argmin": lambda x, h, w: ops.argmin(h, -1, keepdims=True) * x,
    "argmax of truths": lambda x, h, w: ops.argmax(h > x, 1, keepdims=True) * x,
    "one_hot": lambda x, h, w: ops.one_hot(ops.argmax(h, 1), 31, h.dtype)[:, 1:] * x,
    "one_hot of truths": lambda x, h, w: (
        truth(ops.one_hot(ops.argsort(h[:, :3]), 3, bool), 7 * w[:3])
    ),
    "gather by the place of the greatest": lambda x, h, w: (
        x.gather(1, ops.argmax(h, 1, keepdims=True)) * w
    ),
    "gather of a part": lambda x, h, w: (
        (boxes(h) * w[:10]).gather(2, ops.argsort(boxes(x)[:, :2, :7]))
    ),
    "gather of truths": lambda x, h, w: truth((h > 0).gather(1, ops.argsort(x)), x),
    "an order of the input": lambda x, h, w: (
        (ops.sort(x).values + ops.argsort(x) + ops.cumsum(x, 1))[:, :6] @ w.reshape(6, 5) + h[:, :5]
    ),
    "gather of what is made for the batch": lambda x, h, w: (
        (ops.zeros_like(x) + w).gather(1, ops.argsort(h)) * x
    ),
}

CASES = ELEMENTWISE | BROADCAST | SHAPES | REDUCTIONS | PRODUCTS | ORDER
SIZE = dict.fromkeys(CASES, 30) | dict.fromkeys(ELEMENTWISE, 37)
IN_ORDER = [
    "sort", "sort, the greatest first", "argsort", "argsort, the greatest first", "topk", "argmax",
    "argmin", "gather by the place of the greatest", "gather of truths",
]
SMOOTH = {"sqrt", "log", "log1p", "power"}  # of numbers above 0


def run(name, x, h0, d_y, backend):
    """Outputs and gradients of one case."""
    dtype = x.dtype
    cell = Applied(CASES[name], SIZE[name], dtype)
    given = [rk.tensor(x, requires_grad=True), rk.tensor(h0, requires_grad=True)]
    with rk.backend(backend), np.errstate(all="ignore"):
        y, (h,) = run_layer((cell,), given[0], (given[1],))
        assert [each.path for each in rk.why() if " layer " in each.op][-1] == (
            "program" if backend == "native" else "python"
        )
        found = {"y": y, "h": h}
        if y.requires_grad:
            wanted = [*given, cell.w]
            seed = rk.tensor(d_y[..., : y.shape[-1]])
            gradients = rk.grad([y], wanted, [seed], allow_unused=True)
            for key, each in zip(("d_x", "d_h0", "d_w"), gradients, strict=True):
                if each is not None and each.numpy().any():
                    found[key] = each
    return cell, {key: each.detach().numpy() for key, each in found.items()}


def arrays(name, dtype, special=False, T=3, N=5):
    """x, h0 and d_y; the special values meet each other in every pair."""
    H = SIZE[name]
    random = np.random.default_rng([len(name), H])
    drawn = random.standard_normal((T, N, H)), random.standard_normal((1, N, H))
    if special:
        drawn = [random.choice(SPECIAL, each.shape) for each in drawn]
        if name in ("sin", "cos"):  # of huge numbers nothing is sure
            drawn = [np.where(np.abs(each) == 1e30, 3.0, each) for each in drawn]
    elif name in SMOOTH:
        drawn = [np.abs(each) + 0.1 for each in drawn]
    return [each.astype(dtype) for each in (*drawn, random.standard_normal((T, N, 4 * H)))]


@BOTH
@pytest.mark.parametrize("name", CASES)
def test_native_equals_tape(name, dtype):
    given = arrays(name, dtype)
    _, actual = run(name, *given, "native")
    _, expected = run(name, *given, "python")
    assert actual.keys() == expected.keys()
    tolerance = 1e-12 if dtype == "float64" else 3e-5
    for key, array in expected.items():
        scale = max(1.0, float(np.abs(array).max()))
        np.testing.assert_allclose(
            actual[key], array, rtol=tolerance, atol=tolerance * scale, err_msg=key
        )


@BOTH
@pytest.mark.parametrize(
    "name", [*ELEMENTWISE, *IN_ORDER, "the maximum of a row", "softmax of a row", "norms of pairs"]
)
def test_zeros_infinities_and_nan(name, dtype):
    """Of each element by itself, so that no NaN hides another number."""
    given = arrays(name, dtype, special=True)
    _, actual = run(name, *given, "native")
    _, expected = run(name, *given, "python")
    assert actual.keys() == expected.keys()
    for key, array in expected.items():
        # A sum over the batch may cancel; all else is of one element.
        finite = np.abs(array[np.isfinite(array)]).max(initial=0.0)
        np.testing.assert_allclose(
            actual[key], array, rtol=1e-13 if dtype == "float64" else 1e-5,
            atol=1e-6 * min(finite, 1.0) if key == "d_w" else 0.0, err_msg=key,
        )


def test_every_rule_is_reached(monkeypatch):
    reached = set()

    def noting(name, rule):
        def note(*arguments):
            reached.add(name)
            return rule(*arguments)

        return note

    for name, rule in list(RULES.items()):
        monkeypatch.setitem(RULES, name, noting(name, rule))
    for name in CASES:
        run(name, *arrays(name, "float32", T=2, N=2), "native")
    assert set(RULES) - reached == set()


def test_every_operation_is_reached():
    from rnnkit import backend

    names = backend.native().program_ops()
    reached = set()
    for name in CASES:
        cell, _ = run(name, *arrays(name, "float32", T=2, N=2), "native")
        for compiled in traced(cell, held_by(cell)).compiled.values():
            for tables in (compiled.forward, compiled.backward):
                if tables is not None:
                    reached |= {names[row[0]] for row in tables.encoder.instructions}
    assert set(names) - reached == set()
