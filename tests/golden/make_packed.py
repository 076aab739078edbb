"""Writes packed.npz: what torch.nn.utils.rnn and packed recurrent modules give.

Run it with an interpreter that has PyTorch (rnnkit isn't needed):

    python tests/golden/make_packed.py

"layouts" is a JSON list of {lengths, rest, batch_first, enforce_sorted, padding_value,
total_length}; layout k has under "layout{k}/" the padded input, the fields of the PackedSequence
(without the indices where they are None), the batch padded again and its lengths. "runs" is a JSON
list of {cell, options, lengths, enforce_sorted}; run k has under "run{k}/" the arrays that
make_recurrent.py describes, with x and y padded and d_y that of the packed data.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils import rnn

HERE = Path(__file__).parent


def layout(lengths, rest=(), batch_first=False, enforce_sorted=True, value=0.0, total=None):
    return {
        "lengths": lengths,
        "rest": list(rest),
        "batch_first": batch_first,
        "enforce_sorted": enforce_sorted,
        "padding_value": value,
        "total_length": total,
    }


LAYOUTS = [
    layout([4, 3, 1], (2,)),
    layout([4, 4, 2, 1], batch_first=True, value=-1.5, total=6),
    layout([2, 5, 1, 3], (3, 2), enforce_sorted=False, value=7.0),
    layout([1, 3, 3, 5, 2, 3], (2,), batch_first=True, enforce_sorted=False, total=5),
    layout([3], (2,), enforce_sorted=False),
]


def run(cell, lengths, enforce_sorted=False, **options):
    return {
        "cell": cell, "lengths": lengths, "enforce_sorted": enforce_sorted, "options": options
    }


SIZES = {"input_size": 3, "hidden_size": 4}
RUNS = [
    run(cell, [2, 5, 1, 4], **SIZES, num_layers=2, bidirectional=True)
    for cell in ("RNN", "GRU", "LSTM")
] + [
    run("LSTM", [5, 3, 3], True, **SIZES, batch_first=True),
    run("GRU", [1, 6, 2], **SIZES, batch_first=True, bidirectional=True),
]


def make_layout(case):
    lengths, (T, N) = case["lengths"], (max(case["lengths"]) + 1, len(case["lengths"]))
    leading = (N, T) if case["batch_first"] else (T, N)
    padded = torch.randn(*leading, *case["rest"], dtype=torch.float64)
    packed = rnn.pack_padded_sequence(
        padded, lengths, case["batch_first"], case["enforce_sorted"]
    )
    again, steps = rnn.pad_packed_sequence(
        packed, case["batch_first"], case["padding_value"], case["total_length"]
    )
    fields = {name: value for name, value in packed._asdict().items() if value is not None}
    return {"padded": padded, **fields, "again": again, "steps": steps}


def make_run(case):
    options, lengths = case["options"], case["lengths"]
    module = getattr(torch.nn, case["cell"])(**options, dtype=torch.float64)
    D = 2 if options.get("bidirectional") else 1
    layers, N = D * options.get("num_layers", 1), len(lengths)
    leading = (N, max(lengths)) if options.get("batch_first") else (max(lengths), N)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    x = normal(*leading, options["input_size"])
    names = ("h", "c") if case["cell"] == "LSTM" else ("h",)
    state = tuple(normal(layers, N, options["hidden_size"]) for _ in names)
    packed = rnn.pack_padded_sequence(
        x, lengths, module.batch_first, enforce_sorted=case["enforce_sorted"]
    )
    y, final = module(packed, state if len(state) > 1 else state[0])
    final = final if isinstance(final, tuple) else (final,)
    outputs = {"y": y.data, **{f"{n}n": each for n, each in zip(names, final, strict=True)}}
    inputs = {"x": x, **{f"{n}0": each for n, each in zip(names, state, strict=True)}}
    weights = dict(module.named_parameters())
    d_outputs = {f"d_{name}": torch.randn_like(value) for name, value in outputs.items()}
    wanted = inputs | weights
    gradients = torch.autograd.grad(
        list(outputs.values()), list(wanted.values()), list(d_outputs.values())
    )
    d_inputs = {f"d_{name}": value for name, value in zip(wanted, gradients, strict=True)}
    padded, _ = rnn.pad_packed_sequence(y, module.batch_first)
    return inputs | weights | outputs | {"padded": padded} | d_outputs | d_inputs


def main():
    torch.manual_seed(7)
    arrays = {
        "layouts": np.array(json.dumps(LAYOUTS)),
        "runs": np.array(json.dumps(RUNS)),
        "made_with": np.array(f"PyTorch {torch.__version__}"),
    }
    for kind, cases, make in (("layout", LAYOUTS, make_layout), ("run", RUNS, make_run)):
        for number, case in enumerate(cases):
            for name, value in make(case).items():
                arrays[f"{kind}{number}/{name}"] = value.detach().numpy()
    np.savez_compressed(HERE / "packed.npz", **arrays)


if __name__ == "__main__":
    main()
