"""The table of vectors that stand for token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnnkit.autograd.checks import check_real_dtype
from rnnkit.autograd.tensor import to_array
from rnnkit.checks import check_bool, check_integer, check_size
from rnnkit.errors import ShapeError
from rnnkit.module import Module, Parameter, new_parameter
from rnnkit.nn.init import normal_
from rnnkit.ops import embedding

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, DTypeLike

    from rnnkit.autograd import Tensor


class Embedding(Module):
    """Rows of a table, picked by integer ids, as ``torch.nn.Embedding``.

    Args:
        num_embeddings: V, the number of rows.
        embedding_dim: E, the length of each.
        padding_idx: a row that starts at zero and never gets a gradient; negative counts from
            the end.
        dtype: float32 or float64.

    Parameters: weight (V, E), drawn from N(0, 1).
    Called with integer ids (...), it returns (..., E).

    Raises:
        ArgumentError: a size below 1; padding_idx or an id out of range, named.
        DTypeError: another dtype; ids that are not integers.
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.num_embeddings = check_size("num_embeddings", num_embeddings)
        self.embedding_dim = check_size("embedding_dim", embedding_dim)
        if padding_idx is not None:
            V = self.num_embeddings
            padding_idx = check_integer("padding_idx", padding_idx, -V, V - 1) % V
        self.padding_idx = padding_idx
        dtype = check_real_dtype("dtype", dtype)
        self.weight = new_parameter("weight", (num_embeddings, embedding_dim), dtype)
        self.reset_parameters()

    @classmethod
    def from_pretrained(
        cls,
        embeddings: ArrayLike | Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
    ) -> Self:
        """A table of the vectors (V, E), copied, in their dtype; not trained with ``freeze``.

        Raises ShapeError for another number of axes, DTypeError for other than floats.
        """
        table = to_array(embeddings, name="embeddings")
        if table.ndim != 2:
            raise ShapeError(f"embeddings: expected (V, E), got shape {table.shape}")
        rows, size = table.shape
        made = cls(rows, size, padding_idx, dtype=check_real_dtype("embeddings", table.dtype))
        made.weight.data[...] = table
        made.weight.requires_grad = not check_bool("freeze", freeze)
        return made

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def forward(self, ids: Tensor | np.ndarray) -> Tensor:
        return embedding(ids, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"
