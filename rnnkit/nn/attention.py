"""Attention: for each query, a weighted mean of the values, weighted by how well the keys fit it.

Notation: T queries, S keys, N batch, Q, K and V the sizes of a query, a key and a value, A that of
the space in which a query and a key meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.autograd.checks import check_real_dtype, check_tensor
from rnnkit.checks import check_bool, check_choice, check_size
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.module import Module, Parameter, new_parameter
from rnnkit.nn.init import uniform_
from rnnkit.nn.ragged import masked_softmax, step_mask, without_padding
from rnnkit.ops import linear, tanh
from rnnkit.ops.operands import any_tensor, real

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

SCORES = ("general", "dot", "scaled")

__all__ = ["AdditiveAttention", "Attention", "Memory", "MultiplicativeAttention"]


class Memory(NamedTuple):
    """A sequence as an attention looks at it, made once for any number of queries.

    Attributes:
        keys: (N, S, A), projected; zero past a row's end.
        values: (N, S, V), zero past a row's end.
        valid: bool (N, S), True before a row's end; None: everywhere.
    """

    keys: Tensor
    values: Tensor
    valid: Tensor | None


class Attention(Module):
    """What the kinds of attention share; they differ in how a query and a key are scored.

    Called as ``context, weights = attention(query, keys, values, lengths)``:
        query: (T, N, Q), or (N, Q) for one query of each row.
        keys: (S, N, K); or what ``memory`` returned, and then neither values nor lengths.
        values: (S, N, V); None: the keys.
        lengths: (N,) integers from 0 to S: keys past a row's end have a weight of exactly 0, and
            whatever stands there reaches no result and no gradient; None: all S.
        context: (T, N, V), or (N, V): the sum of the values times their weights.
        weights: (T, N, S), or (N, S): softmax of the scores over the valid keys. A row of length 0
            has zero weights and a zero context.

    A cell's ``step`` may call it with a state as the query and a `Memory` of states, and then runs
    natively (docs/add-a-cell.md).

    Raises:
        ShapeError: an axis of another size, or another number of axes.
        DTypeError: another dtype than that of the parameters, or of the keys without parameters.
        ArgumentError: a length out of range; values or lengths beside a memory.
    """

    query_size: int
    key_size: int

    def memory(self, keys: Any, values: Any = None, lengths: Any = None) -> Memory:
        """The keys projected and the padding removed, to be given as ``keys`` with every query.

        Arguments and errors are those of the call.
        """
        keys = any_tensor(keys, "keys") if isinstance(keys, np.ndarray) else keys
        dtype = next((p.dtype for p in self.parameters()), getattr(keys, "dtype", None))
        keys = check_tensor("keys", keys, dtype, {3: "(S, N, K)"}, last=self.key_size)  # type: ignore[arg-type]
        real("keys", keys)
        S, N, _ = keys.shape
        valid = step_mask(lengths, S, N, of="the steps of keys")
        kept = without_padding(keys, valid)
        if values is None:
            kept_values = kept
        else:
            values = check_tensor("values", values, keys.dtype, {3: "(S, N, V)"})
            if values.shape[:2] != (S, N):
                raise ShapeError(
                    f"values: expected ({S}, {N}, V) beside keys of shape {keys.shape}, "
                    f"got {values.shape}"
                )
            kept_values = without_padding(values, valid)
        return Memory(
            self._project(kept).transpose(0, 1),
            kept_values.transpose(0, 1),
            None if valid is None else valid.T,
        )

    def forward(
        self, query: Any, keys: Any, values: Any = None, lengths: Any = None
    ) -> tuple[Tensor, Tensor]:
        if not isinstance(keys, Memory):
            memory = self.memory(keys, values, lengths)
        elif values is None and lengths is None:
            memory = keys
        else:
            raise ArgumentError("values, lengths: a memory brings its own; leave them out")
        axes = {2: "(N, Q)", 3: "(T, N, Q)"}
        query = check_tensor("query", query, memory.keys.dtype, axes, last=self.query_size)
        N = memory.keys.shape[0]
        if query.shape[-2] != N:
            raise ShapeError(f"query: expected {N} rows as the keys have, got shape {query.shape}")
        # The rows of one query stay on the first axis: a cell's step may attend to its memory.
        several = query.transpose(0, 1) if query.ndim == 3 else query.unsqueeze(1)
        valid = None if memory.valid is None else memory.valid.unsqueeze(1)
        weights = masked_softmax(self._scores(several, memory.keys), valid)
        context = weights @ memory.values
        if query.ndim == 3:
            return context.transpose(0, 1), weights.transpose(0, 1)
        return context.squeeze(1), weights.squeeze(1)

    def _project(self, keys: Tensor) -> Tensor:
        """(S, N, K) -> (S, N, A): the part of the score that no query changes."""
        raise NotImplementedError

    def _scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """(N, T, Q) and (N, S, A) -> (N, T, S)"""
        raise NotImplementedError


class AdditiveAttention(Attention):
    """The attention of Bahdanau, Cho and Bengio 2015, arXiv 1409.0473, appendix A.1.2.

        score(q, k) = v . tanh(W q + U k + b)

    Args:
        query_size: Q.
        key_size: K.
        attention_size: A.
        bias: whether there is b, which the paper leaves out for readability.
        dtype: float32 or float64.

    Parameters: weight_query (A, Q), weight_key (A, K), bias (A,), weight_score (A,), each drawn
    from U(-1/sqrt(n), 1/sqrt(n)) where n is how many numbers each of its sums adds; for bias Q + K.
    The call, its results and its errors are those of ``Attention``. Its largest array has T*N*S*A
    numbers.

    Raises:
        ArgumentError: a size below 1.
        DTypeError: another dtype.
    """

    bias: Parameter | None

    def __init__(
        self,
        query_size: int,
        key_size: int,
        attention_size: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.query_size = Q = check_size("query_size", query_size)
        self.key_size = K = check_size("key_size", key_size)
        self.attention_size = A = check_size("attention_size", attention_size)
        dtype = check_real_dtype("dtype", dtype)
        self.weight_query = new_parameter("weight_query", (A, Q), dtype)
        self.weight_key = new_parameter("weight_key", (A, K), dtype)
        self.register_parameter(
            "bias", new_parameter("bias", (A,), dtype) if check_bool("bias", bias) else None
        )
        self.weight_score = new_parameter("weight_score", (A,), dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for parameter, count in (
            (self.weight_query, self.query_size),
            (self.weight_key, self.key_size),
            (self.bias, self.query_size + self.key_size),
            (self.weight_score, self.attention_size),
        ):
            if parameter is not None:
                uniform_(parameter, -(count**-0.5), count**-0.5)

    def _project(self, keys: Tensor) -> Tensor:
        return linear(keys, self.weight_key, self.bias)

    def _scores(self, query: Tensor, keys: Tensor) -> Tensor:
        queries = linear(query, self.weight_query)
        return tanh(queries.unsqueeze(2) + keys.unsqueeze(1)) @ self.weight_score

    def extra_repr(self) -> str:
        sizes = f"{self.query_size}, {self.key_size}, {self.attention_size}"
        return sizes if self.bias is not None else f"{sizes}, bias=False"


class MultiplicativeAttention(Attention):
    """The attention of Luong, Pham and Manning 2015, arXiv 1508.04025, equation 8.

        score(q, k) = q . W k              "general"
        score(q, k) = q . k                "dot"
        score(q, k) = q . k / sqrt(Q)      "scaled", Vaswani et al. 2017, arXiv 1706.03762, eq. 1

    Args:
        query_size: Q.
        key_size: K; for "dot" and "scaled" it is Q.
        score: which of the three.
        dtype: float32 or float64, of the parameter.

    Parameters: weight (Q, K) for "general", drawn from U(-1/sqrt(K), 1/sqrt(K)); else none, and
    keys of either dtype are taken.
    The call, its results and its errors are those of ``Attention``.

    Raises:
        ArgumentError: a size below 1, another score, or sizes that differ where they must not.
        DTypeError: another dtype.
    """

    weight: Parameter | None

    def __init__(
        self,
        query_size: int,
        key_size: int,
        score: str = "general",
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.query_size = check_size("query_size", query_size)
        self.key_size = check_size("key_size", key_size)
        check_choice("score", score, SCORES)
        if score != "general" and query_size != key_size:
            raise ArgumentError(
                f"key_size: expected {query_size}, the query_size, for the score {score!r}, "
                f"got {key_size}"
            )
        self.score = score
        dtype = check_real_dtype("dtype", dtype)
        general = score == "general"
        self.register_parameter(
            "weight", new_parameter("weight", (query_size, key_size), dtype) if general else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameter anew."""
        if self.weight is not None:
            uniform_(self.weight, -(self.key_size**-0.5), self.key_size**-0.5)

    def _project(self, keys: Tensor) -> Tensor:
        if self.score == "scaled":
            return keys * self.query_size**-0.5
        return keys if self.weight is None else linear(keys, self.weight)

    def _scores(self, query: Tensor, keys: Tensor) -> Tensor:
        return query @ keys.transpose(1, 2)

    def extra_repr(self) -> str:
        return f"{self.query_size}, {self.key_size}, score={self.score}"
