"""Makes mixtures.npz, adaptive_softmax.npz and lbfgs.npz with PyTorch as the peer.

Needs a virtual environment with PyTorch and NumPy (made with torch 2.13; rnnkit is not imported):

    python -m venv peer && peer/bin/pip install torch numpy
    peer/bin/python tests/golden/make_tasks.py

Each file holds its cases as JSON under the key "cases" and the arrays of case k under "k/name", all
float64.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import distributions as D
from torch.nn import functional as F

HERE = Path(__file__).parent
FLOOR = GAP = 1e-4


def save(name, cases, arrays):
    np.savez_compressed(HERE / f"{name}.npz", cases=np.array(json.dumps(cases)), **arrays)


# -- mixtures --------------------------------------------------------------------------------

MIXTURES = [
    {"loss": "handwriting_nll", "components": 3, "axes": 2, "shape": [5, 4]},
    {"loss": "handwriting_nll", "components": 1, "axes": 2, "shape": []},
    {"loss": "handwriting_nll", "components": 20, "axes": 2, "shape": [7], "scale": 2.0},
    {"loss": "gaussian_mixture_nll", "components": 3, "axes": 2, "shape": [5, 4]},
    {"loss": "gaussian_mixture_nll", "components": 4, "axes": 1, "shape": [6]},
    {"loss": "gaussian_mixture_nll", "components": 1, "axes": 5, "shape": [6], "scale": 2.0},
]


def mixture_nll(case, raw, target):
    """The negative log densities (...), by PyTorch's distributions."""
    M, axes, lead = case["components"], case["axes"], raw.shape[:-1]
    w, mu, s, *rest = raw.split([M, M * axes, M * axes, raw.shape[-1] - M * (1 + 2 * axes)], -1)
    mu = mu.reshape(*lead, M, axes)
    sigma = FLOOR + s.reshape(*lead, M, axes).exp()
    weights = D.Categorical(logits=w)
    if case["loss"] == "gaussian_mixture_nll":
        parts = D.Independent(D.Normal(mu, sigma), 1)
        return -D.MixtureSameFamily(weights, parts).log_prob(target)
    rho = (1 - GAP) * torch.tanh(rest[0][..., :M])
    one, two = sigma[..., 0], sigma[..., 1]
    lower = torch.stack(
        [one, torch.zeros_like(one), rho * two, two * (1 - rho**2).sqrt()], -1
    ).reshape(*lead, M, 2, 2)
    points = D.MixtureSameFamily(weights, D.MultivariateNormal(mu, scale_tril=lower))
    ends = F.binary_cross_entropy_with_logits(raw[..., -1], target[..., 2], reduction="none")
    return ends - points.log_prob(target[..., :2])


def make_mixtures():
    random = np.random.default_rng(11)
    arrays = {}
    for number, case in enumerate(MIXTURES):
        strokes = case["loss"] == "handwriting_nll"
        M, axes = case["components"], case["axes"]
        last = M * (1 + 2 * axes) + (M + 1 if strokes else 0)
        raw = torch.tensor(random.normal(0, case.get("scale", 1.0), (*case["shape"], last)))
        target = random.normal(size=(*case["shape"], axes + strokes))
        if strokes:
            target[..., 2] = random.random(case["shape"]) < 0.3
        target = torch.tensor(target)
        raw.requires_grad_()
        target.requires_grad_()
        losses = mixture_nll(case, raw, target)
        d_losses = torch.tensor(random.normal(size=tuple(losses.shape)))
        losses.backward(d_losses)
        for name, array in (
            ("input", raw.detach()),
            ("target", target.detach()),
            ("losses", losses.detach()),
            ("d_losses", d_losses),
            ("d_input", raw.grad),
            ("d_target", target.grad),
        ):
            arrays[f"{number}/{name}"] = array.numpy()
    save("mixtures", MIXTURES, arrays)


# -- adaptive softmax ------------------------------------------------------------------------

ADAPTIVE = [
    {"args": [8, 20, [5, 11]], "options": {"div_value": 2.0}, "rows": 12},
    {"args": [16, 15, [3, 4, 9]], "options": {"div_value": 2.5, "head_bias": True}, "rows": 9},
    {"args": [4, 7, [6]], "options": {}, "rows": 1},
]


def make_adaptive():
    torch.manual_seed(12)
    random = np.random.default_rng(12)
    arrays = {}
    for number, case in enumerate(ADAPTIVE):
        layer = torch.nn.AdaptiveLogSoftmaxWithLoss(*case["args"], **case["options"]).double()
        for parameter in layer.parameters():
            parameter.data.mul_(3)
        x = torch.tensor(random.normal(size=(case["rows"], case["args"][0])), requires_grad=True)
        target = torch.tensor(random.integers(0, case["args"][1], case["rows"]))
        output, loss = layer(x, target)
        d_output = torch.tensor(random.normal(size=case["rows"]))
        ((output * d_output).sum() + 2 * loss).backward()
        case["parameters"] = [name for name, _ in layer.named_parameters()]
        for name, parameter in layer.named_parameters():
            arrays[f"{number}/{name}"] = parameter.detach().numpy()
            # No gradient in PyTorch where no target lies in a cluster.
            d_parameter = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            arrays[f"{number}/d_{name}"] = d_parameter.numpy()
        for name, array in (
            ("input", x.detach()),
            ("target", target),
            ("output", output.detach()),
            ("loss", loss.detach()),
            ("d_output", d_output),
            ("d_input", x.grad),
            ("log_prob", layer.log_prob(x).detach()),
            ("predict", layer.predict(x)),
        ):
            arrays[f"{number}/{name}"] = array.numpy()
    save("adaptive_softmax", ADAPTIVE, arrays)


# -- LBFGS -----------------------------------------------------------------------------------

LBFGS = [
    {"options": {"max_iter": 4}},
    {"options": {"lr": 0.1}},
    {"options": {"lr": 0.02, "history_size": 2, "max_iter": 9, "max_eval": 5}},
    *[
        # Where max_eval ends a search, PyTorch may go back to a worse point.
        {"options": {"line_search_fn": "strong_wolfe", "max_eval": 500, **options}}
        for options in (
            {},
            {"history_size": 3, "max_iter": 7},
            {"lr": 0.5, "max_iter": 1},
            {"lr": 10.0, "max_iter": 2},
        )
    ],
]
STEPS = 6


def make_lbfgs():
    random = np.random.default_rng(13)
    start = 0.5 * random.normal(size=5)
    arrays = {"start": start}
    for number, case in enumerate(LBFGS):
        # Two parameters, so that the vector of all is put together.
        params = [torch.tensor(part, requires_grad=True) for part in (start[:2], start[2:])]
        optimizer = torch.optim.LBFGS(params, **case["options"])

        def closure(params=params, optimizer=optimizer):
            optimizer.zero_grad()
            x = torch.cat(params)
            loss = ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()
            loss.backward()
            return loss

        places, losses = [], []
        for _ in range(STEPS):
            losses.append(optimizer.step(closure).item())
            places.append(torch.cat(params).detach().numpy().copy())
        state = optimizer.state[params[0]]
        arrays[f"{number}/places"] = np.stack(places)
        arrays[f"{number}/losses"] = np.array(losses)
        arrays[f"{number}/counts"] = np.array([state["n_iter"], state["func_evals"]])
    save("lbfgs", LBFGS, arrays)


if __name__ == "__main__":
    make_mixtures()
    make_adaptive()
    make_lbfgs()
