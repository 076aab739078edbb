"""Writes recurrent_{rnn,gru,lstm,projected}.npz: outputs and gradients of PyTorch's modules.

Run it with an interpreter that has PyTorch (rnnkit isn't needed):

    python tests/golden/make_recurrent.py

Each file has an entry "cases", a JSON list of {name, options, x_shape, dtype, lengths}, and for
every case and array the entry "{case}/{array}": inputs (x, h0, c0), weights under their names in
the state_dict, outputs (y, hn, cn), the gradients fed to the outputs (d_y, d_hn, d_cn) and the
gradients of every input and weight (d_x, d_h0, d_c0, d_{weight}). Batches with lengths have gone
through a PackedSequence.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

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
RAGGED = {
    "ragged": (
        {"input_size": 4, "hidden_size": 5, "num_layers": 2, "bidirectional": True},
        (7, 5, 4),
        "float64",
        [3, 7, 1, 7, 5],
    ),
    "ragged_batch_first": (
        {"input_size": 3, "hidden_size": 9, "bidirectional": True, "batch_first": True},
        (4, 6, 3),
        "float32",
        [2, 5, 4, 1],
    ),
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


def run(module, x, state, lengths):
    """y, of all steps of x, and the final states, as a tuple."""
    state = state if len(state) > 1 else state[0]
    if lengths is None:
        y, final = module(x, state)
    else:
        time = 1 if module.batch_first else 0
        layout = {"batch_first": module.batch_first}
        packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False, **layout)
        y, final = module(packed, state)
        y, _ = pad_packed_sequence(y, total_length=x.shape[time], **layout)
    return y, final if isinstance(final, tuple) else (final,)


def run_case(module_class, options, x_shape, dtype, lengths=None):
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
    y, final = run(module, x, state, lengths)
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
    arrays = {cell: {} for cell in MODULES}
    described = {cell: [] for cell in MODULES}
    todo = [(cell, case) for cell, (_, cases) in MODULES.items() for case in cases.items()]
    todo += [(cell, case) for cell in MODULES for case in RAGGED.items()]
    for cell, (name, (options, x_shape, dtype, *lengths)) in todo:
        case = {"name": name, "options": options, "x_shape": x_shape, "dtype": dtype}
        described[cell].append(case | {"lengths": lengths[0] if lengths else None})
        found = run_case(MODULES[cell][0], options, x_shape, dtype, *lengths)
        arrays[cell] |= {f"{name}/{key}": value for key, value in found.items()}
    for cell in MODULES:
        arrays[cell]["cases"] = np.array(json.dumps(described[cell]))
        arrays[cell]["made_with"] = np.array(f"PyTorch {torch.__version__}")
        np.savez_compressed(HERE / f"recurrent_{cell}.npz", **arrays[cell])


if __name__ == "__main__":
    main()
