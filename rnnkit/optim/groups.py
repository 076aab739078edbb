"""Which parameters of a model are decayed."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from rnnkit.checks import check_kind, check_list, check_number
from rnnkit.errors import ArgumentError
from rnnkit.module import Module

if TYPE_CHECKING:
    from collections.abc import Sequence


def parameter_groups(
    module: Module, weight_decay: float, no_decay: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Groups for an optimiser that decay the matrices of a module and nothing else.

    Parameters of fewer than two axes are not decayed: biases, and the weights of normalisations,
    whose size is no sign of a complicated function (Loshchilov and Hutter 2019 leave the choice
    open; van Laarhoven 2017, arXiv 1706.05350, on normalisation).

    Args:
        module: whose parameters, each once, also where it is shared.
        weight_decay: the decay of the first group; that of the second is 0.
        no_decay: dotted names of more parameters that are not decayed, with ``*`` and ``?`` as in
            file names, such as "embedding.weight" or "recurrent.weight_hh_*".

    Returns:
        one or two dicts with "params" and "weight_decay", for ``optim.AdamW(groups)``.

    Raises ArgumentError for a negative weight_decay, or a name in no_decay that fits no parameter.
    """
    check_kind("module", module, Module)
    check_number("weight_decay", weight_decay, below_high=True)
    no_decay = check_list("no_decay", no_decay, "a sequence of names")
    named = list(module.named_parameters(remove_duplicate=False))
    spared = {id(param) for _, param in named if param.ndim < 2}
    for pattern in no_decay:
        is_text = isinstance(pattern, str)
        found = [id(param) for name, param in named if is_text and fnmatchcase(name, pattern)]
        if not found:
            raise ArgumentError(f"no_decay: no parameter is called {pattern!r}")
        spared.update(found)
    parameters = list(module.parameters())
    groups = [
        ([param for param in parameters if id(param) not in spared], weight_decay),
        ([param for param in parameters if id(param) in spared], 0.0),
    ]
    return [{"params": params, "weight_decay": decay} for params, decay in groups if params]
