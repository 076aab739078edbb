"""A translator: an encoder and decoder with attention, and how a batch of pairs trains it."""

from __future__ import annotations

from typing import Any

from rnnkit.module import Module
from rnnkit.nn import EncoderDecoder
from rnnkit.nn.utils import scheduled_sampling
from rnnkit.train.objective import Loss


class Translator(Module):
    """``nn.EncoderDecoder``, as ``network``, with what the trainer needs.

    Label smoothing and scheduled sampling (Bengio et al. 2015, arXiv 1506.03099) act in training
    only. The probability of reading the network's own word grows linearly with the batches, from 0
    to ``sampling`` over the first ``sampling_batches`` of them.
    """

    def __init__(
        self,
        network: EncoderDecoder,
        *,
        label_smoothing: float = 0.0,
        sampling: float = 0.0,
        sampling_batches: int = 1,
    ) -> None:
        super().__init__()
        self.network = network
        self.label_smoothing = label_smoothing
        self.sampling = sampling
        self.sampling_batches = sampling_batches

    def forward(self, source: Any, target: Any, *lengths: Any) -> Any:
        """As ``network``."""
        return self.network(source, target, *lengths)

    def sampling_at(self, position: int) -> float:
        """The probability of reading its own word in the batch at ``position``."""
        slope = self.sampling / self.sampling_batches
        return scheduled_sampling.linear(position, slope, floor=1.0 - self.sampling)

    def loss(self, batch: Any, state: Any = None) -> Loss:
        """The mean cross entropy of a target word, the end included, in nats.

        ``batch``: of ``RaggedBatches`` with targets that have lengths of their own.
        """
        value = self.network.loss(
            batch.inputs,
            batch.targets,
            batch.lengths,
            batch.target_lengths,
            sampling=self.sampling_at(batch.position) if self.training else 0.0,
            label_smoothing=self.label_smoothing if self.training else 0.0,
        )
        return Loss(value, int(batch.target_lengths.sum()))
