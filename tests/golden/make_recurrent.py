"""Writes recurrent_{rnn,gru,lstm,projected}.npz: outputs and gradients of PyTorch's modules.

Run it with an interpreter that has PyTorch (rnnkit isn't needed):

    python tests/golden/make_recurrent.py

Each file has an entry "cases", a JSON list of {name, options, x_shape, dtype}, and for every case
and array the entry "{case}/{array}": inputs (x, h0, c0), weights under their names in the
state_dict, outputs (y, hn, cn), the gradients fed to the outputs (d_y, d_hn, d_cn) and the
gradients of every input and weight (d_x, d_h0, d_c0, d_{weight}).
"""

import json
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent

CASES = {
    "plain": ({"input_size": 4, "hidden_size": 6}, (5, 3, 4), "float64"),
    "smallest": ({"input_size": 1, "hidden_size": 1}, (1, 1, 1), "float64"),
    "no_bias": ({"input_size": 3, "hidden_size": 5, "bias": False}, (4, 2, 3), "float64"),
    "batch_first": (
        {"input_size": 3, "hidden_size": 7, "batch_first": True, "bidirectional": True},
        (3, 4, 3),
        "float64",
    ),
    "stacked": (
        {"input_size": 5, "hidden_size": 3, "num_layers": 2, "bidirectional": True},
        (6, 2, 5),
        "float64",
    ),
    "unbatched": ({"input_size": 2, "hidden_size": 4, "num_layers": 2}, (5, 2), "float64"),
    "single_precision": ({"input_size": 9, "hidden_size": 17}, (11, 5, 9), "float32"),
}
RELU = {"relu": ({"input_size": 4, "hidden_size": 6, "nonlinearity": "relu"}, (5, 3, 4), "float64")}
PROJECTED = {
    "plain": ({"input_size": 4, "hidden_size": 6, "proj_size": 3}, (5, 3, 4), "float64"),
    "no_bias": (
        {"input_size": 3, "hidden_size": 5, "proj_size": 4, "bias": False}, (4, 2, 3), "float64",
    ),
    "stacked": (
        {
            "input_size": 5, "hidden_size": 4, "proj_size": 2, "num_layers": 2,
            "bidirectional": True, "batch_first": True,
        },
        (3, 6, 5),
        "float64",
    ),
    "unbatched": (
        {"input_size": 2, "hidden_size": 4, "proj_size": 1, "num_layers": 2}, (5, 2), "float64",
    ),
    "single_precision": (
        {"input_size": 9, "hidden_size": 17, "proj_size": 11}, (11, 5, 9), "float32",
    ),
}  # fmt: skip
MODULES = {
    "rnn": (torch.nn.RNN, CASES | RELU),
    "gru": (torch.nn.GRU, CASES),
    "lstm": (torch.nn.LSTM, CASES),
    "projected": (torch.nn.LSTM, PROJECTED),
}


def run_case(module_class, options, x_shape, dtype):
    """All arrays of one case, by name."""
    module = module_class(**options, dtype=getattr(torch, dtype))
    batched = len(x_shape) == 3
    directions = 2 if options.get("bidirectional") else 1
    layers = options.get("num_layers", 1) * directions
    batch = x_shape[0] if options.get("batch_first") else x_shape[1]
    H = options["hidden_size"]
    features = {"h": options.get("proj_size", H), "c": H}

    def normal(*shape):
        return torch.randn(*shape, dtype=getattr(torch, dtype), requires_grad=True)

    x = normal(*x_shape)
    names = ("h", "c") if module_class is torch.nn.LSTM else ("h",)
    state = tuple(normal(layers, *([batch] if batched else []), features[name]) for name in names)
    y, final = module(x, state if len(state) > 1 else state[0])
    final = final if isinstance(final, tuple) else (final,)
    outputs = dict(zip(("y", *(f"{n}n" for n in names)), (y, *final), strict=True))
    inputs = {"x": x, **dict(zip((f"{n}0" for n in names), state, strict=True))}
    weights = dict(module.named_parameters())
    d_outputs = {f"d_{name}": torch.randn_like(value) for name, value in outputs.items()}
    wanted = inputs | weights
    gradients = torch.autograd.grad(
        list(outputs.values()), list(wanted.values()), list(d_outputs.values())
    )
    d_inputs = {f"d_{name}": value for name, value in zip(wanted, gradients, strict=True)}
    everything = inputs | weights | outputs | d_outputs | d_inputs
    return {name: value.detach().numpy() for name, value in everything.items()}


def main():
    torch.manual_seed(20240)
    for cell, (module_class, cases) in MODULES.items():
        arrays, described = {}, []
        for name, (options, x_shape, dtype) in cases.items():
            described.append({"name": name, "options": options, "x_shape": x_shape, "dtype": dtype})
            for key, value in run_case(module_class, options, x_shape, dtype).items():
                arrays[f"{name}/{key}"] = value
        arrays["cases"] = np.array(json.dumps(described))
        arrays["made_with"] = np.array(f"PyTorch {torch.__version__}")
        np.savez_compressed(HERE / f"recurrent_{cell}.npz", **arrays)


if __name__ == "__main__":
    main()
