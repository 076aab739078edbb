"""Makes ctc.npz with PyTorch as the peer.

Needs a virtual environment with PyTorch and NumPy (made with torch 2.13; rnnkit is not imported):

    python -m venv peer && peer/bin/pip install torch numpy
    peer/bin/python tests/golden/make_ctc.py

Laid out as make_losses_optim.py says. Gradients are those of the scores before log_softmax: those
of the log probabilities PyTorch defines in another way.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

HERE = Path(__file__).parent

# T, N, C, the lengths of inputs and targets, and what else ctc_loss takes. T alone: a single row.
CASES = [
    {"shape": [12, 4, 6], "frames": [12, 9, 5, 1], "labels": [5, 3, 4, 0]},
    {"shape": [12, 4, 6], "frames": [12, 9, 5, 1], "labels": [5, 3, 4, 0], "reduction": "sum"},
    {"shape": [12, 4, 6], "frames": [12, 9, 5, 1], "labels": [5, 3, 4, 0], "reduction": "none"},
    {"shape": [20, 3, 5], "frames": [20, 20, 20], "labels": [7, 7, 7], "blank": 3},
    {"shape": [20, 3, 5], "frames": [7, 20, 13], "labels": [2, 9, 4], "flat": True, "blank": 4},
    {"shape": [15, 3, 3], "frames": [15, 14, 13], "labels": [6, 6, 1], "repeats": True},
    *[
        {
            "shape": [6, 5, 4],
            "frames": [6, 3, 0, 0, 5],
            "labels": [2, 4, 0, 2, 5],
            "zero_infinity": True,
            "reduction": reduction,
        }
        for reduction in ("mean", "sum", "none")
    ],
    {"shape": [9, 4], "frames": 8, "labels": 3, "reduction": "none"},
    {"shape": [9, 4], "frames": 8, "labels": 3, "reduction": "mean"},
    {"shape": [40, 2, 9], "frames": [40, 31], "labels": [18, 14], "scale": 20.0},
    {"shape": [10, 2, 5], "frames": [10, 10], "labels": [0, 0]},
]


def targets_of(case, random):
    counts = np.atleast_1d(case["labels"])
    C, blank = case["shape"][-1], case.get("blank", 0)
    labels = [k for k in range(C) if k != blank]
    targets = random.choice(labels, (len(counts), counts.max()))
    if case.get("repeats"):
        targets[:, 1::2] = targets[:, : targets.shape[1] // 2 * 2 : 2]
    if case.get("flat"):
        return np.concatenate([row[:count] for row, count in zip(targets, counts, strict=True)])
    return targets if len(case["shape"]) == 3 else targets[0]


def main():
    random = np.random.default_rng(7)
    arrays = {}
    for number, case in enumerate(CASES):
        logits = random.normal(size=case["shape"]) * case.get("scale", 1.0)
        targets = targets_of(case, random)
        t = torch.tensor(logits, requires_grad=True)
        value = F.ctc_loss(
            t.log_softmax(-1),
            torch.tensor(targets),
            torch.tensor(case["frames"]),
            torch.tensor(case["labels"]),
            case.get("blank", 0),
            case.get("reduction", "mean"),
            case.get("zero_infinity", False),
        )
        d_value = random.normal(size=tuple(value.shape))
        value.backward(torch.tensor(d_value))
        arrays |= {
            f"{number}/logits": logits,
            f"{number}/targets": targets,
            f"{number}/value": value.detach().numpy(),
            f"{number}/d_value": d_value,
            f"{number}/d_logits": t.grad.numpy(),
        }
    np.savez_compressed(HERE / "ctc.npz", cases=np.array(json.dumps(CASES)), **arrays)


if __name__ == "__main__":
    main()
