"""One sequence into another: an encoder, and a decoder that attends to what it read.

Notation: S source steps, T target steps, N batch, E embedding, H hidden, L layers, V target tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd import no_grad
from rnnkit.autograd.tensor import wrap
from rnnkit.checks import check_bool, check_integer, check_probability, check_size
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.losses import linear_cross_entropy
from rnnkit.module import Module
from rnnkit.nn.attention import (
    SCORES,
    AdditiveAttention,
    Attention,
    Memory,
    MultiplicativeAttention,
)
from rnnkit.nn.containers import ModuleList
from rnnkit.nn.dropout import Dropout
from rnnkit.nn.embedding import Embedding
from rnnkit.nn.init import normal_
from rnnkit.nn.input_feeding import run_with_feeding
from rnnkit.nn.linear import Linear
from rnnkit.nn.ragged import step_mask
from rnnkit.nn.rnn_gru_lstm import GRU, LSTM, RNN
from rnnkit.ops import cat, log_softmax, stack, tanh
from rnnkit.ops.operands import ids as integer_array
from rnnkit.rng import generator

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from rnnkit.autograd import Tensor
    from rnnkit.autograd.tensor import Array

CELLS: dict[str, Any] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
ATTENTIONS = (*SCORES, "additive")

__all__ = ["EncoderDecoder"]


class EncoderDecoder(Module):
    """Reads one sequence of tokens and writes another (Sutskever et al. 2014, Cho et al. 2014).

    The attention is that of Luong, Pham and Manning 2015, arXiv 1508.04025: it acts on the
    decoder's output, h, and with the context c it found (equations 5 and 6)

        a = tanh(W_c [c; h]),   log p = log softmax(W a + b)

    The decoder's states then do not depend on the attention, so with the true tokens as inputs all
    steps of all rows run in the native loop at once.

    Args:
        source_size: how many tokens the source has.
        target_size: V.
        embedding_dim: E, of source and target tokens.
        hidden_size: H, of the encoder, in each direction, and of the decoder.
        num_layers: L, of each.
        start_token: the target token that the decoder reads first.
        cell: "rnn", "gru" or "lstm".
        bidirectional: whether the encoder also reads backward. The final states of both directions
            of each layer, side by side, then become the decoder's first by a linear layer, and tanh
            for h; without, they are these as they are.
        attention: "general", "dot", "scaled" (as ``nn.MultiplicativeAttention``), "additive"
            (``nn.AdditiveAttention``), or None: the decoder sees only the encoder's final states,
            and a is h. "dot" and "scaled" need an encoder of one direction.
        attention_size: of the additive attention, for which alone it may be given; None: H.
        input_feeding: whether the decoder also reads the former a beside each token (section 3.3).
            Its states then depend on the attention, and both are one step of a cell that runs
            natively (`nn.input_feeding`), unless it has more than eight states, as with three
            layers of LSTM: then steps run one by one.
        tied: whether the decoder's embedding is W as well (Press and Wolf 2017, arXiv 1608.05859);
            a then has E features, without attention H must be E, and the embedding is drawn from
            N(0, 1/E).
        dropout: on embeddings, between layers, and on a.
        dtype: float32 or float64.

    Modules: source_embedding, encoder, bridge (with ``bidirectional``: for each layer, for each of
    its states, Linear(2*H, H)), target_embedding, decoder, attention, combine (W_c, (H or E, K + H)
    with K = H or 2*H for the size of an encoder output), head (W and b). Of those that an option
    leaves out the name is None.

    Wherever they occur below:
        source: (S, N) integers.
        target: (T, N) integers, without the start token, and with the one that ends a sequence
            where decoding shall end by it.
        source_lengths, target_lengths: (N,) integers from 0, in any order; None: all S, all T. What
            stands past a row's end may be any integer, and has no effect.
        sampling: p, scheduled sampling (Bengio et al. 2015, arXiv 1506.03099): at each step, with
            this probability, the decoder reads its own most probable token in place of the true
            one. Drawn for each row from the library's generator. Above 0 the steps run one by one.
            ``nn.utils.scheduled_sampling`` has the paper's schedules.

    Called as ``logits, weights = model(source, target, source_lengths, target_lengths,
    sampling=0.0)``: logits (T, N, V), those at t for ``target[t]`` given the tokens before; weights
    (T, N, S) of the attention, or None. Past a row's end they mean nothing.

    Raises:
        ArgumentError: an option out of range or that does not go with another; a token or a length
            out of range.
        DTypeError: tokens or lengths that are not integers; another dtype.
        ShapeError: tokens that are not (S, N) and (T, N), lengths that are not (N,).
    """

    bridge: ModuleList | None
    attention: Attention | None
    combine: Linear | None

    def __init__(
        self,
        source_size: int,
        target_size: int,
        embedding_dim: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        start_token: int,
        cell: str = "gru",
        bidirectional: bool = True,
        attention: str | None = "general",
        attention_size: int | None = None,
        input_feeding: bool = False,
        tied: bool = False,
        dropout: float = 0.0,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        E, H = check_size("embedding_dim", embedding_dim), check_size("hidden_size", hidden_size)
        if not isinstance(cell, str) or cell not in CELLS:
            raise ArgumentError(f"cell: expected one of {', '.join(CELLS)}, got {cell!r}")
        if attention is not None and (
            not isinstance(attention, str) or attention not in ATTENTIONS
        ):
            raise ArgumentError(
                f"attention: expected one of {', '.join(ATTENTIONS)} or None, got {attention!r}"
            )
        if attention_size is not None and attention != "additive":
            raise ArgumentError(
                f"attention_size: only the additive attention has one, not {attention!r}"
            )
        if attention is None and check_bool("input_feeding", input_feeding):
            raise ArgumentError("input_feeding: without attention there is nothing to feed")
        if check_bool("tied", tied) and attention is None and E != H:
            raise ArgumentError(
                f"tied: without attention expected embedding_dim = hidden_size, got {E} and {H}"
            )
        self.source_size = check_size("source_size", source_size)
        self.target_size = check_size("target_size", target_size)
        self.start_token = check_integer("start_token", start_token, 0, target_size - 1)
        self.num_layers = check_size("num_layers", num_layers)
        self.bidirectional = check_bool("bidirectional", bidirectional)
        self.input_feeding = check_bool("input_feeding", input_feeding)
        self.tied = tied
        self.dropout = Dropout(check_probability("dropout", dropout))
        self.features = E if tied else H
        K = 2 * H if bidirectional else H
        between = dropout if num_layers > 1 else 0.0

        self.source_embedding = Embedding(source_size, E, dtype=dtype)
        self.encoder = CELLS[cell](
            E, H, num_layers, dropout=between, bidirectional=bidirectional, dtype=dtype
        )
        states = 2 if cell == "lstm" else 1
        bridge = (Linear(K, H, dtype=dtype) for _ in range(states * num_layers))
        self.add_module("bridge", ModuleList(bridge) if bidirectional else None)
        self.target_embedding = Embedding(target_size, E, dtype=dtype)
        self.decoder = CELLS[cell](
            E + self.features if input_feeding else E, H, num_layers, dropout=between, dtype=dtype
        )
        self.add_module("attention", _attention(attention, H, K, attention_size, dtype))
        self.add_module(
            "combine",
            Linear(K + H, self.features, bias=False, dtype=dtype) if attention else None,
        )
        self.head = Linear(self.features, target_size, dtype=dtype)
        if tied:
            normal_(self.target_embedding.weight, std=E**-0.5)
            self.head.weight = self.target_embedding.weight

    def forward(
        self,
        source: Any,
        target: Any,
        source_lengths: Any = None,
        target_lengths: Any = None,
        *,
        sampling: float = 0.0,
    ) -> tuple[Tensor, Tensor | None]:
        target, _ = self._check_target(target, target_lengths)
        features, weights = self._run(source, target, source_lengths, target_lengths, sampling)
        return self.head(features), weights

    def loss(
        self,
        source: Any,
        target: Any,
        source_lengths: Any = None,
        target_lengths: Any = None,
        *,
        sampling: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """The mean cross entropy, in nats, of the valid target tokens; NaN where there are none.

        The logits exist a chunk of rows at a time. Arguments and errors are those of the call, and
        ``label_smoothing`` is as in ``losses.cross_entropy``.
        """
        target, valid = self._check_target(target, target_lengths)
        features, _ = self._run(source, target, source_lengths, target_lengths, sampling)
        if valid is not None:
            # Only what counts: the head is the widest product of all.
            places = np.flatnonzero(valid)
            features = features.reshape(-1, self.features)[places]
            target = target.reshape(-1)[places]
        return linear_cross_entropy(
            features, self.head.weight, target, self.head.bias, label_smoothing=label_smoothing
        )

    # -- one step at a time ----------------------------------------------------------------------

    def start(self, source: Any, lengths: Any = None) -> tuple[Any, ...]:
        """The state in which the decoder begins, for ``step``.

        With ``rnnkit.decoding``, in evaluation mode::

            found = beam_search(
                model.step, model.start(source, lengths), batch_axis=model.state_axes,
                start=model.start_token, end=end, beam_width=5, max_length=50,
            )

        Returns:
            a flat tuple: with attention its memory, keys (N, S, A), values (N, S, K) and valid
            (N, S) or None; the decoder's states (L, N, H); with ``input_feeding`` a (N, features).
        """
        memory, states = self._encode(source, lengths, "lengths")
        feed = (self._no_feed(states),) if self.input_feeding else ()
        return (*(memory or ()), *states, *feed)

    def step(
        self, tokens: Any, state: tuple[Any, ...]
    ) -> tuple[Tensor, tuple[Any, ...], Tensor | None]:
        """One step of the decoder.

        Args:
            tokens: (N,) integers, the last token of each row; first the start token.
            state: from ``start`` or from the last step.

        Returns:
            the log-probabilities of the next token (N, V), the next state, and the weights of the
            attention (N, S) or None.
        """
        wanted = len(self.state_axes)
        if not isinstance(state, tuple | list) or len(state) != wanted:
            raise ArgumentError(
                f"state: expected {wanted} items, as start and step return, got {state!r:.40}"
            )
        kept = 0 if self.attention is None else len(Memory._fields)
        memory = Memory(*state[:kept]) if kept else None
        states, feed = state[kept:], None
        if self.input_feeding:
            states, feed = states[:-1], states[-1]
        features, weights, states = self._advance(tokens, memory, states, feed)
        after = (*state[:kept], *states, *((features,) if self.input_feeding else ()))
        return log_softmax(self.head(features), -1), after, weights

    @property
    def state_axes(self) -> tuple[int, ...]:
        """Where the rows are in each item of the state that ``start`` and ``step`` return."""
        memory = () if self.attention is None else (0,) * len(Memory._fields)
        states = (1,) * (2 if isinstance(self.decoder, LSTM) else 1)
        return (*memory, *states, *((0,) if self.input_feeding else ()))

    # -- parts -----------------------------------------------------------------------------------

    def _check_target(self, target: Any, lengths: Any) -> tuple[Array, Array | None]:
        return _check_tokens("target", target, self.target_size, lengths, "target_lengths")

    def _encode(
        self, source: Any, lengths: Any, name: str
    ) -> tuple[Memory | None, tuple[Tensor, ...]]:
        """What the attention looks at, and the decoder's first states (L, N, H).

        ``name`` is that of the argument with the lengths.
        """
        ids, _ = _check_tokens("source", source, self.source_size, lengths, name)
        y, final = self.encoder(self.dropout(self.source_embedding(ids)), lengths=lengths)
        states = _as_tuple(final)
        if self.bridge is not None:
            layers = list(self.bridge)
            states = tuple(
                _bridged(layers[i :: len(states)], each, bounded=i == 0)
                for i, each in enumerate(states)
            )
        return None if self.attention is None else self.attention.memory(y, None, lengths), states

    def _run(
        self, source: Any, target: Array, source_lengths: Any, target_lengths: Any, sampling: float
    ) -> tuple[Tensor, Tensor | None]:
        """a of every step (T, N, features), and the weights of the attention."""
        check_probability("sampling", sampling)
        memory, states = self._encode(source, source_lengths, "source_lengths")
        T, N = target.shape
        rows = states[0].shape[1]
        if rows != N:
            raise ShapeError(f"target: expected {rows} rows as source has, got {target.shape}")
        inputs = np.concatenate([np.full((1, N), self.start_token), target])[:T]
        if T > 0 and sampling > 0.0:
            return self._run_by_steps(inputs, memory, states, sampling)
        x = self.dropout(self.target_embedding(inputs))
        if not self.input_feeding:
            y, _ = self.decoder(x, _as_state(states), lengths=target_lengths)
            return self._attended(y, memory)
        assert memory is not None
        assert self.attention is not None
        assert self.combine is not None
        return run_with_feeding(
            self.decoder, self.attention, self.combine, self.dropout, x, states, memory,
            target_lengths,
        )

    def _run_by_steps(
        self, inputs: Array, memory: Memory | None, states: tuple[Tensor, ...], sampling: float
    ) -> tuple[Tensor, Tensor | None]:
        T, N = inputs.shape
        sampled = np.zeros((T, N), bool)
        if sampling:
            sampled[1:] = generator().random((T - 1, N)) < sampling
        feed = self._no_feed(states)
        features: list[Tensor] = []
        weights: list[Any] = []
        for t, tokens in enumerate(inputs):
            if sampled[t].any():
                with no_grad():
                    own = self.head(features[-1]).argmax(-1).data
                tokens = np.where(sampled[t], own, tokens)
            feed, looked, states = self._advance(tokens, memory, states, feed)
            features.append(feed)
            weights.append(looked)
        return stack(features, 0), None if memory is None else stack(weights, 0)

    def _advance(
        self, tokens: Any, memory: Memory | None, states: tuple[Tensor, ...], feed: Any
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
        """a (N, features), weights and states after one step."""
        x = self.dropout(self.target_embedding(tokens))
        if self.input_feeding:
            x = cat([x, feed], -1)
        y, final = self.decoder(x.unsqueeze(0), _as_state(states))
        return *self._attended(y.squeeze(0), memory), _as_tuple(final)

    def _attended(self, y: Tensor, memory: Memory | None) -> tuple[Tensor, Tensor | None]:
        """a and the weights of the attention, for the decoder's outputs (..., N, H)."""
        if self.attention is None or self.combine is None:
            return self.dropout(y), None
        context, weights = self.attention(y, memory)
        return self.dropout(tanh(self.combine(cat([context, y], -1)))), weights

    def _no_feed(self, states: tuple[Tensor, ...]) -> Tensor:
        return wrap(np.zeros((states[0].shape[1], self.features), states[0].dtype))

    def extra_repr(self) -> str:
        return f"start_token={self.start_token}, input_feeding={self.input_feeding}"


def _bridged(layers: list[Module], final: Tensor, bounded: bool) -> Tensor:
    """Final states (L*2, N, H), both directions of each layer, -> (L, N, H)."""
    L, (_, N, H) = len(layers), final.shape
    both = final.reshape(L, 2, N, H).permute(0, 2, 1, 3).reshape(L, N, 2 * H).unbind(0)
    mapped = stack([layer(each) for layer, each in zip(layers, both, strict=True)], 0)
    return tanh(mapped) if bounded else mapped  # c of an LSTM has no bounds


def _attention(
    score: str | None, H: int, K: int, attention_size: int | None, dtype: DTypeLike
) -> Attention | None:
    if score is None:
        return None
    if score == "additive":
        size = H if attention_size is None else attention_size
        return AdditiveAttention(H, K, size, dtype=dtype)
    return MultiplicativeAttention(H, K, score, dtype=dtype)


def _check_tokens(
    name: str, value: Any, size: int, lengths: Any, lengths_name: str
) -> tuple[Array, Array | None]:
    """The ids (T, N), 0 past the rows' ends, and which are valid; None: all."""
    ids = integer_array(name, value, "tokens")
    if ids.ndim != 2:
        axes = "(S, N)" if name == "source" else "(T, N)"
        raise ShapeError(f"{name}: expected tokens {axes}, got shape {ids.shape}")
    valid = step_mask(lengths, ids.shape[0], ids.shape[1], lengths_name, f"the steps of {name}")
    if valid is not None:
        ids = np.where(valid.data, ids, 0)
    wrong = ids[(ids < 0) | (ids >= size)]
    if wrong.size:
        raise ArgumentError(f"{name}: expected tokens in [0, {size}), got {wrong[0]}")
    return ids, None if valid is None else valid.data


def _as_tuple(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def _as_state(states: tuple[Tensor, ...]) -> Any:
    return states if len(states) > 1 else states[0]
