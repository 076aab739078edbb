"""Makes losses.npz, layers.npz, optim.npz and lr_scheduler.npz with PyTorch as the peer.

Needs a virtual environment with PyTorch and NumPy (made with torch 2.13; rnnkit is not imported):

    python -m venv peer && peer/bin/pip install torch numpy
    peer/bin/python tests/golden/make_losses_optim.py

Each file holds its cases as JSON under the key "cases" and the arrays of case k under "k/name", so
that the tests need no list of their own. Values are float64 but for the optimisers, which PyTorch
ran in both dtypes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.optim import lr_scheduler

HERE = Path(__file__).parent
STEPS = 10
EPOCHS = 30


def save(name, cases, arrays):
    np.savez_compressed(HERE / f"{name}.npz", cases=np.array(json.dumps(cases)), **arrays)


def tensor(array, requires_grad=True):
    return torch.tensor(array, requires_grad=requires_grad)


# -- losses ----------------------------------------------------------------------------------

CLASSIFICATION = [
    {"loss": "cross_entropy", "shape": [5, 7], "options": {}},
    {"loss": "cross_entropy", "shape": [7], "options": {}},
    {"loss": "cross_entropy", "shape": [4, 3, 6], "options": {"reduction": "sum"}},
    {"loss": "cross_entropy", "shape": [4, 3, 6], "options": {"reduction": "none"}},
    {"loss": "cross_entropy", "shape": [6, 5], "options": {"ignore_index": 2}},
    {"loss": "cross_entropy", "shape": [6, 5], "options": {"ignore_index": -100}, "ignored": 3},
    {"loss": "cross_entropy", "shape": [5, 7], "options": {"label_smoothing": 0.1}},
    {"loss": "cross_entropy", "shape": [5, 7], "options": {}, "weight": True},
    *[
        {
            "loss": "cross_entropy",
            "shape": [3, 4, 5],
            "options": {"label_smoothing": 0.2, "reduction": reduction},
            "weight": True,
            "ignored": 4,
        }
        for reduction in ("mean", "sum", "none")
    ],
    {"loss": "cross_entropy", "shape": [3, 4], "options": {"reduction": "mean"}, "ignored": 3},
    {"loss": "cross_entropy", "shape": [3, 4], "options": {"reduction": "sum"}, "ignored": 3},
    {"loss": "cross_entropy", "shape": [3, 4], "options": {}, "scale": 1000.0},
    {"loss": "nll_loss", "shape": [5, 7], "options": {}},
    {"loss": "nll_loss", "shape": [7], "options": {}},
    *[
        {
            "loss": "nll_loss",
            "shape": [3, 4, 5],
            "options": {"reduction": reduction},
            "weight": True,
            "ignored": 4,
        }
        for reduction in ("mean", "sum", "none")
    ],
]

REGRESSION = [
    {"loss": loss, "shape": [3, 4], "options": {**options, "reduction": reduction}}
    for loss, options in (
        ("mse_loss", {}),
        ("l1_loss", {}),
        ("smooth_l1_loss", {}),
        ("smooth_l1_loss", {"beta": 0.3}),
        ("smooth_l1_loss", {"beta": 0.0}),
        ("binary_cross_entropy_with_logits", {}),
    )
    for reduction in ("mean", "sum", "none")
] + [
    {
        "loss": "binary_cross_entropy_with_logits",
        "shape": [3, 4],
        "options": {},
        "weight": weight,
        "pos_weight": pos_weight,
    }
    for weight, pos_weight in ((True, False), (False, True), (True, True))
]

# Behind the others, so that those keep their numbers.
LIKELIHOODS = [
    {"loss": loss, "shape": [3, 4], "options": {**options, "reduction": reduction}}
    for loss, options in (
        ("huber_loss", {}),
        ("huber_loss", {"delta": 0.3}),
        ("binary_cross_entropy", {}),
        ("gaussian_nll_loss", {}),
        ("poisson_nll_loss", {}),
        ("kl_div", {}),
    )
    for reduction in ("mean", "sum", "none")
] + [
    {"loss": "binary_cross_entropy", "shape": [3, 4], "options": {}, "weight": True},
    {"loss": "gaussian_nll_loss", "shape": [3, 4], "options": {"full": True, "eps": 0.7}},
    {"loss": "poisson_nll_loss", "shape": [3, 4], "options": {"full": True}},
    {"loss": "poisson_nll_loss", "shape": [3, 4], "options": {"log_input": False, "full": True}},
    {"loss": "poisson_nll_loss", "shape": [3, 4], "options": {"log_input": False, "eps": 0.1}},
    {"loss": "kl_div", "shape": [3, 4], "options": {"reduction": "batchmean"}},
    {"loss": "kl_div", "shape": [3, 4], "options": {"log_target": True}},
]


def likely(case, random):
    """The input and the target of a case of these."""
    shape = case["shape"]
    x = random.normal(0, 2, shape)
    if case["loss"] == "binary_cross_entropy":
        return 1 / (1 + np.exp(-x)), random.uniform(0, 1, shape).round(1)
    if case["loss"] == "poisson_nll_loss":
        rates = x if case["options"].get("log_input", True) else np.exp(x)
        return rates, random.integers(0, 5, shape).astype(float)
    if case["loss"] == "kl_div":
        target = random.dirichlet(np.ones(shape[-1]), shape[0]).round(2)
        target[0] = [0, 0.25, 0.75, 0]
        if "log_target" in case["options"]:
            target = np.log(target + 0.01)
        return x - np.log(np.exp(x).sum(-1, keepdims=True)), target
    return x, random.normal(0, 2, shape)


def classes_second(x):
    return x.movedim(-1, 1) if x.ndim > 2 else x


def make_losses():
    random = np.random.default_rng(1)
    arrays = {}
    cases = CLASSIFICATION + REGRESSION + LIKELIHOODS
    for number, case in enumerate(cases):
        shape = case["shape"]
        options = dict(case["options"])
        if case in LIKELIHOODS:
            x, target = likely(case, random)
        else:
            x = random.normal(0, 2, shape) * case.get("scale", 1.0)
        if case in CLASSIFICATION:
            target = random.integers(0, shape[-1], shape[:-1])
            if "ignored" in case:
                target.reshape(-1)[: case["ignored"]] = -100
            if case["loss"] == "nll_loss":
                x = x - np.log(np.exp(x).sum(-1, keepdims=True))
        elif case["loss"] == "binary_cross_entropy_with_logits":
            target = random.uniform(0, 1, shape).round(1)
        elif case in REGRESSION:
            target = random.normal(0, 2, shape)
        for name in ("weight", "pos_weight"):
            if case.get(name):
                values = random.uniform(0.5, 2, shape[-1])
                arrays[f"{number}/{name}"] = values
                options[name] = tensor(values, requires_grad=False)
        if case["loss"] == "gaussian_nll_loss":
            arrays[f"{number}/var"] = random.uniform(0.3, 2, shape)
            options["var"] = tensor(arrays[f"{number}/var"], requires_grad=False)
        t = tensor(x)
        seen = classes_second(t) if case in CLASSIFICATION else t
        value = getattr(F, case["loss"])(seen, tensor(target, requires_grad=False), **options)
        d_value = random.normal(size=tuple(value.shape))
        value.backward(tensor(d_value, requires_grad=False))
        arrays[f"{number}/input"] = x
        arrays[f"{number}/target"] = target
        arrays[f"{number}/value"] = value.detach().numpy()
        arrays[f"{number}/d_value"] = d_value
        arrays[f"{number}/d_input"] = t.grad.numpy()
    save("losses", cases, arrays)


# -- layers ----------------------------------------------------------------------------------

LAYERS = [
    {"layer": "Linear", "args": [4, 3], "shape": [5, 4]},
    {"layer": "Linear", "args": [4, 3], "shape": [2, 5, 4]},
    {"layer": "Linear", "args": [4, 3], "shape": [4]},
    {"layer": "Linear", "args": [4, 3], "options": {"bias": False}, "shape": [5, 4]},
    {"layer": "Embedding", "args": [7, 3], "ids": [[1, 2, 2], [0, 6, 1]]},
    {"layer": "Embedding", "args": [7, 3], "options": {"padding_idx": 2}, "ids": [1, 2, 2, 6]},
    {"layer": "Embedding", "args": [7, 3], "options": {"padding_idx": -1}, "ids": [6, 1, 0]},
    {"layer": "LayerNorm", "args": [5], "shape": [4, 5]},
    {"layer": "LayerNorm", "args": [[3, 4]], "options": {"eps": 1e-3}, "shape": [2, 3, 4]},
    {"layer": "LayerNorm", "args": [5], "options": {"bias": False}, "shape": [2, 3, 5]},
    {"layer": "LayerNorm", "args": [5], "options": {"elementwise_affine": False}, "shape": [4, 5]},
    {"layer": "Tanh", "args": [], "shape": [3, 4]},
    {"layer": "ReLU", "args": [], "shape": [3, 4]},
    {"layer": "Sigmoid", "args": [], "shape": [3, 4]},
    {"layer": "Identity", "args": [], "shape": [3, 4]},
]


def make_layers():
    torch.manual_seed(2)
    random = np.random.default_rng(2)
    arrays = {}
    for number, case in enumerate(LAYERS):
        options = case.get("options", {})
        layer = getattr(torch.nn, case["layer"])(*case["args"], **options).double()
        for parameter in layer.parameters():
            parameter.data.add_(torch.randn(parameter.shape, dtype=torch.float64) * 0.1)
        if "ids" in case:
            x = torch.tensor(case["ids"])
        else:
            x = tensor(random.normal(size=case["shape"]))
            arrays[f"{number}/input"] = x.detach().numpy()
        y = layer(x)
        d_y = random.normal(size=tuple(y.shape))
        y.backward(tensor(d_y, requires_grad=False))
        arrays[f"{number}/output"] = y.detach().numpy()
        arrays[f"{number}/d_output"] = d_y
        if x.grad is not None:
            arrays[f"{number}/d_input"] = x.grad.numpy()
        case["parameters"] = [name for name, _ in layer.named_parameters()]
        for name, parameter in layer.named_parameters():
            arrays[f"{number}/{name}"] = parameter.detach().numpy()
            arrays[f"{number}/d_{name}"] = parameter.grad.numpy()
    save("layers", LAYERS, arrays)


# -- optimisers ------------------------------------------------------------------------------

OPTIMIZERS = [
    {"class": "SGD", "options": {"lr": 0.1}},
    {"class": "SGD", "options": {"lr": 0.1, "momentum": 0.9}},
    {"class": "SGD", "options": {"lr": 0.1, "momentum": 0.9, "nesterov": True}},
    {"class": "SGD", "options": {"lr": 0.1, "momentum": 0.8, "dampening": 0.3}},
    {"class": "SGD", "options": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}},
    {"class": "SGD", "options": {"lr": 0.1, "weight_decay": 0.05}},
    {"class": "Adam", "options": {}},
    {"class": "Adam", "options": {"lr": 0.05, "betas": [0.8, 0.95], "eps": 1e-4}},
    {"class": "Adam", "options": {"lr": 0.05, "weight_decay": 0.1}},
    {"class": "AdamW", "options": {}},
    {"class": "AdamW", "options": {"lr": 0.05, "betas": [0.8, 0.95], "weight_decay": 0.2}},
    {"class": "RMSprop", "options": {}},
    {"class": "RMSprop", "options": {"lr": 0.02, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1}},
    {"class": "RMSprop", "options": {"centered": True}},
    {"class": "RMSprop", "options": {"momentum": 0.9, "centered": True, "weight_decay": 0.05}},
    {"class": "RMSprop", "options": {"momentum": 0.9}},
    {"class": "Adagrad", "options": {}},
    {"class": "Adagrad", "options": {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.05}},
    {"class": "Adagrad", "options": {"initial_accumulator_value": 0.5, "eps": 1e-3}},
]
OPTIMIZERS += [
    {"class": "NAdam", "options": {}},
    {"class": "NAdam", "options": {"lr": 0.05, "betas": [0.8, 0.95], "weight_decay": 0.1}},
    {
        "class": "NAdam",
        "options": {"momentum_decay": 0.5, "weight_decay": 0.1, "decoupled_weight_decay": True},
    },
    {"class": "RAdam", "options": {}},
    {"class": "RAdam", "options": {"lr": 0.05, "betas": [0.8, 0.95], "weight_decay": 0.1}},
    {
        "class": "RAdam",
        "options": {"lr": 0.05, "eps": 1e-3, "weight_decay": 0.1, "decoupled_weight_decay": True},
    },
    {"class": "Adamax", "options": {}},
    {"class": "Adamax", "options": {"lr": 0.05, "betas": [0.8, 0.5], "weight_decay": 0.1}},
    {"class": "Adadelta", "options": {}},
    {"class": "Adadelta", "options": {"lr": 0.5, "rho": 0.5, "eps": 1e-3, "weight_decay": 0.1}},
]
SHAPES = [(3, 4), (5,)]


def make_optimizers():
    torch.set_default_dtype(torch.float64)  # NAdam's product of momenta is of the default
    random = np.random.default_rng(3)
    starts = [random.normal(size=shape) for shape in SHAPES]
    gradients = [random.normal(size=(STEPS, *shape)) for shape in SHAPES]
    arrays = {f"start{k}": start for k, start in enumerate(starts)}
    arrays |= {f"gradients{k}": gradient for k, gradient in enumerate(gradients)}
    for number, case in enumerate(OPTIMIZERS):
        for dtype in ("float32", "float64"):
            params = [tensor(start.astype(dtype)) for start in starts]
            # The loop over single tensors is the one whose order of operations is documented.
            optimizer = getattr(torch.optim, case["class"])(
                params, **case["options"], foreach=False
            )
            history = [[] for _ in params]
            for step in range(STEPS):
                for k, param in enumerate(params):
                    param.grad = torch.tensor(gradients[k][step].astype(dtype))
                optimizer.step()
                for k, param in enumerate(params):
                    history[k].append(param.detach().numpy().copy())
            for k, values in enumerate(history):
                arrays[f"{number}/{dtype}/{k}"] = np.stack(values)
    save("optim", OPTIMIZERS, arrays)


# -- schedules -------------------------------------------------------------------------------

SCHEDULES = [
    {"class": "StepLR", "options": {"step_size": 7}},
    {"class": "StepLR", "options": {"step_size": 3, "gamma": 0.7}},
    {"class": "MultiStepLR", "options": {"milestones": [4, 9, 9, 20], "gamma": 0.5}},
    {"class": "ExponentialLR", "options": {"gamma": 0.9}},
    {"class": "CosineAnnealingLR", "options": {"T_max": 12}},
    {"class": "CosineAnnealingLR", "options": {"T_max": 30, "eta_min": 0.01}},
    {"class": "LinearLR", "options": {}},
    {"class": "LinearLR", "options": {"start_factor": 0.1, "end_factor": 0.8, "total_iters": 11}},
    {
        "class": "SequentialLR",
        "milestones": [5],
        "schedulers": [
            {"class": "LinearLR", "options": {"start_factor": 0.1, "total_iters": 5}},
            {"class": "CosineAnnealingLR", "options": {"T_max": 20, "eta_min": 0.001}},
        ],
    },
    {
        "class": "SequentialLR",
        "milestones": [4, 15],
        "schedulers": [
            {"class": "LinearLR", "options": {"start_factor": 0.2, "total_iters": 4}},
            {"class": "ExponentialLR", "options": {"gamma": 0.8}},
            {"class": "StepLR", "options": {"step_size": 3, "gamma": 0.5}},
        ],
    },
    {"class": "ReduceLROnPlateau", "options": {"patience": 2}, "metrics": "falling"},
    {"class": "ReduceLROnPlateau", "options": {"patience": 1, "factor": 0.5}, "metrics": "rough"},
    {
        "class": "ReduceLROnPlateau",
        "options": {"mode": "max", "patience": 0, "cooldown": 3, "threshold": 0.05},
        "metrics": "rough",
    },
    {
        "class": "ReduceLROnPlateau",
        "options": {
            "patience": 1,
            "threshold_mode": "abs",
            "threshold": 0.2,
            "min_lr": [0.01, 0.0],
        },
        "metrics": "rough",
    },
    {
        "class": "ReduceLROnPlateau",
        "options": {"mode": "max", "patience": 2, "threshold_mode": "abs", "eps": 0.01},
        "metrics": "falling",
    },
    {"class": "CosineAnnealingWarmRestarts", "options": {"T_0": 7, "eta_min": 0.001}},
    {"class": "CosineAnnealingWarmRestarts", "options": {"T_0": 4, "T_mult": 2}},
    {"class": "OneCycleLR", "options": {"max_lr": 0.3, "total_steps": 45}},
    {
        "class": "OneCycleLR",
        "options": {
            "max_lr": [0.3, 0.1],
            "epochs": 4,
            "steps_per_epoch": 10,
            "pct_start": 0.2,
            "anneal_strategy": "linear",
            "div_factor": 10.0,
            "final_div_factor": 50.0,
        },
    },
]


def make_schedule(optimizer, case):
    kind = getattr(lr_scheduler, case["class"])
    if "schedulers" in case:
        parts = [make_schedule(optimizer, part) for part in case["schedulers"]]
        return kind(optimizer, parts, case["milestones"])
    return kind(optimizer, **case["options"])


def make_schedules():
    random = np.random.default_rng(4)
    metrics = {
        "falling": np.maximum(1.0, 3.0 - 0.2 * np.arange(EPOCHS)),
        "rough": 2.0 + random.normal(0, 0.5, EPOCHS),
    }
    arrays = dict(metrics)
    for number, case in enumerate(SCHEDULES):
        params = [tensor(np.zeros(1)), tensor(np.zeros(1))]
        optimizer = torch.optim.SGD(
            [{"params": [params[0]]}, {"params": [params[1]], "lr": 0.02}], lr=0.5
        )
        schedule = make_schedule(optimizer, case)
        rates = []
        for epoch in range(EPOCHS):
            rates.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            if "metrics" in case:
                schedule.step(metrics[case["metrics"]][epoch])
            else:
                schedule.step()
        arrays[f"{number}/rates"] = np.array(rates)
    save("lr_scheduler", SCHEDULES, arrays)


if __name__ == "__main__":
    make_losses()
    make_layers()
    make_optimizers()
    make_schedules()
