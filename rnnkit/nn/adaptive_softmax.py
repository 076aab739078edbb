"""A softmax over many classes in which the frequent ones are cheap and the rare ones are small."""

from __future__ import annotations

import math
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnnkit.autograd import as_tensor, no_grad
from rnnkit.autograd.checks import check_real_dtype, check_tensor
from rnnkit.checks import check_bool, check_list, check_number, check_size
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.losses.classification import check_class_ids, cross_entropy
from rnnkit.losses.reduction import reduce
from rnnkit.module import Module
from rnnkit.nn.containers import ModuleList, Sequential
from rnnkit.nn.linear import Linear
from rnnkit.ops import cat, log_softmax, zeros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, DTypeLike

    from rnnkit.autograd import Tensor


class AdaptiveOutput(NamedTuple):
    """What `AdaptiveLogSoftmaxWithLoss` gives.

    Attributes:
        output: (...) the log probability of each target.
        loss: () the mean of their negatives.
    """

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Softmax by clusters of classes, as ``torch.nn.AdaptiveLogSoftmaxWithLoss``.

    Grave, Joulin, Cisse, Grangier and Jegou 2017, "Efficient softmax approximation for GPUs", arXiv
    1609.04309. Classes are sorted by falling frequency. The head scores the first ``cutoffs[0]``
    of them and the clusters of the others; a cluster scores its own classes through a narrower
    layer, and only for the rows whose target it holds.

    Args:
        in_features: I.
        n_classes: C.
        cutoffs: rising numbers from 1 to C - 1, where the clusters begin.
        div_value: cluster i (from 0) is ``I // div_value ** (i + 1)`` wide.
        head_bias: whether the head has a bias.
        dtype: float32 or float64.

    Parameters: head.weight (cutoffs[0] + clusters, I), head.bias; for cluster i of O classes and
    width W tail.{i}.0.weight (W, I) and tail.{i}.1.weight (O, W). All drawn as in `Linear`.
    Called with input (..., I) and integer target (...), it returns an `AdaptiveOutput`. The mean
    of no rows is NaN.

    Raises:
        ArgumentError: cutoffs that do not rise, or leave a cluster empty; div_value that leaves a
            cluster no width; a target outside [0, C).
        DTypeError: another dtype; input not of the parameters' dtype; target not of integers.
        ShapeError: the last axis of input is not I; target not of its shape without that.
    """

    head: Linear
    tail: ModuleList

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.in_features = check_size("in_features", in_features)
        self.n_classes = check_size("n_classes", n_classes)
        listed = check_list("cutoffs", cutoffs, "rising integers")
        firsts = [check_size(f"cutoffs[{i}]", cutoff) for i, cutoff in enumerate(listed)]
        ends = [*firsts, n_classes]
        if not firsts or any(a >= b for a, b in pairwise(ends)):
            raise ArgumentError(
                f"cutoffs: expected rising integers from 1 to {n_classes - 1}, got {cutoffs!r}"
            )
        check_number("div_value", div_value, above_low=True)
        self.cutoffs = ends
        self.shortlist_size = ends[0]
        self.n_clusters = len(ends) - 1
        self.div_value = div_value
        self.head_bias = check_bool("head_bias", head_bias)
        dtype = check_real_dtype("dtype", dtype)
        self.head = Linear(
            in_features, self.shortlist_size + self.n_clusters, bias=head_bias, dtype=dtype
        )
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            share = in_features // div_value ** (i + 1)
            if not 1 <= share <= sys.maxsize:
                few = f"leaves cluster {i} a feature of {in_features}"
                many = f"makes cluster {i} no wider than {sys.maxsize}"
                raise ArgumentError(
                    f"div_value: expected one that {few if share < 1 else many}, got {div_value!r}"
                )
            width = int(share)
            self.tail.append(
                Sequential(
                    Linear(in_features, width, bias=False, dtype=dtype),
                    Linear(width, ends[i + 1] - ends[i], bias=False, dtype=dtype),
                )
            )

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for module in self.modules():
            if isinstance(module, Linear):
                module.reset_parameters()

    def forward(
        self, input: Tensor | np.ndarray, target: ArrayLike | Tensor
    ) -> AdaptiveOutput:
        rows, lead = self._rows(input)
        ids = check_class_ids(target, lead, self.n_classes).reshape(-1).astype(np.int64)
        # In the head a class of a cluster stands as its cluster, behind the shortlist.
        cluster = np.searchsorted(self.cutoffs, ids, side="right") - 1
        in_head = np.where(cluster < 0, ids, self.shortlist_size + cluster)
        losses = cross_entropy(self.head(rows), in_head, reduction="none")
        # The losses within the clusters, cluster by cluster after a 0 for rows of the shortlist.
        within = [zeros(1, dtype=losses.dtype)]
        place, count = np.zeros(len(ids), np.intp), 1
        for i, tail in enumerate(self.tail):
            (members,) = np.nonzero(cluster == i)
            if len(members):
                own = ids[members] - self.cutoffs[i]
                within.append(cross_entropy(tail(rows[members]), own, reduction="none"))
                place[members] = np.arange(count, count + len(members))
                count += len(members)
        if count > 1:
            losses = losses + cat(within)[place]
        return AdaptiveOutput(-losses.reshape(lead), reduce(losses, "mean", losses.size))

    def log_prob(self, input: Tensor | np.ndarray) -> Tensor:
        """The log probabilities (..., C) of all classes, of input (..., I)."""
        rows, lead = self._rows(input)
        head = log_softmax(self.head(rows), -1)
        parts = [head[:, : self.shortlist_size]]
        for i, tail in enumerate(self.tail):
            of_cluster = head[:, self.shortlist_size + i].unsqueeze(-1)
            parts.append(log_softmax(tail(rows), -1) + of_cluster)
        return cat(parts, 1).reshape(*lead, self.n_classes)

    def predict(self, input: Tensor | np.ndarray) -> Tensor:
        """The most probable class of each row of input (..., I), int64 (...).

        Clusters are looked into only for rows in which one beats the whole shortlist: no class of a
        cluster is more probable than the cluster.
        """
        rows, lead = self._rows(input)
        with no_grad():
            best = self.head(rows).argmax(-1).data.copy()
            (members,) = np.nonzero(best >= self.shortlist_size)
            if len(members):
                best[members] = self.log_prob(rows[members]).argmax(-1).data
        return as_tensor(best.reshape(lead))

    def _rows(self, input: Any) -> tuple[Tensor, tuple[int, ...]]:
        """The input as rows (n, I), and its leading shape."""
        x = check_tensor("input", input, self.head.weight.dtype)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ShapeError(
                f"input: expected {self.in_features} features in the last axis, got shape {x.shape}"
            )
        lead = x.shape[:-1]
        return x.reshape(math.prod(lead), self.in_features), lead

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.n_classes}, cutoffs={self.cutoffs[:-1]}, "
            f"div_value={self.div_value}, head_bias={self.head_bias}"
        )
