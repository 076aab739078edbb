"""A cell as any user may write one, and its runs on both paths."""


import numpy as np
from recurrent_contract import last_layer

import rnnkit as rk
from rnnkit import nn
from rnnkit.recurrent import run_layer


class Own(rk.Cell):
    """h' = tanh(factor x W^T + h U^T + b), as any user may write it."""

    def __init__(self, I=3, H=5, dtype="float32"):
        super().__init__(I, H)
        random = np.random.default_rng(I)
        self.W = nn.Parameter(random.standard_normal((H, I)).astype(dtype))
        self.U = nn.Parameter(random.standard_normal((H, H)).astype(dtype))
        self.b = nn.Parameter(random.standard_normal(H).astype(dtype))
        self.factor, self.shift = 1.0, [0.0]

    def step(self, x, state):
        (h,) = state
        h = (self.factor * x @ self.W.T + h @ self.U.T + self.b + self.shift[0]).tanh()
        if not self.training:
            h = h * 0.5
        return h, (h,)


def data(dtype="float32"):
    random = np.random.default_rng(0)
    return random.standard_normal((4, 3, 3)).astype(dtype)


def check(cell, dtype="float32", **more):
    """Native against the tape; gives the native outputs."""
    results = []
    for backend in ("native", "python"):
        x = rk.tensor(data(dtype), requires_grad=True)
        named = {"x": x, **dict(cell.named_parameters()), **more}
        with rk.backend(backend):
            y, (h,) = run_layer((cell,), x)
            if backend == "native":
                assert last_layer().path == "program"
            wanted = [each for each in named.values() if each.requires_grad]
            gradients = rk.grad((y * y).sum() + h.sum(), wanted)
        results.append([y.detach().numpy(), *[each.numpy() for each in gradients]])
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    return results[0][0]
