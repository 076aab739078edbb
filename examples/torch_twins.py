"""The networks of two examples in PyTorch, to be trained beside them.

A twin has the names, the sizes and the very weights that rnnkit's network begins with. It sees the
same batches, and is trained by the same rules: PyTorch's own AdamW, the same learning rates and
clipping, as many updates (or, with --torch seconds, as many seconds of CPU). What differs is the
dropout, drawn by another generator, and the rounding. Afterwards its weights go back into a network
of rnnkit's, and both are judged by the same code. Nothing here is needed without --torch.

    python examples/translate.py --torch
    python examples/language_model.py --torch
"""

import time

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnnkit as rk
from rnnkit.train.schedules import cosine_factor


class Twin(nn.Module):
    """What both have in common."""

    def begin_as(self, model):
        self.load_state_dict({name: torch.tensor(v) for name, v in model.state_dict().items()})

    def hand_over(self, model):
        """Give ``model`` the weights of this one."""
        model.load_state_dict({name: v.numpy() for name, v in self.state_dict().items()})


class AdditiveScore(nn.Module):
    """The scores of ``rnnkit.nn.AdditiveAttention``."""

    def __init__(self, hidden):
        super().__init__()
        self.weight_query = nn.Parameter(torch.empty(hidden, hidden))
        self.weight_key = nn.Parameter(torch.empty(hidden, 2 * hidden))
        self.bias = nn.Parameter(torch.empty(hidden))
        self.weight_score = nn.Parameter(torch.empty(hidden))

    def forward(self, query, keys):
        queries = nn.functional.linear(query, self.weight_query)
        keys = nn.functional.linear(keys, self.weight_key, self.bias)
        return torch.tanh(queries[:, :, None] + keys[:, None]) @ self.weight_score


class TranslatorTwin(Twin):
    """``rnnkit.nn.EncoderDecoder`` of one layer of GRUs, bidirectional and tied, and "additive"."""

    def __init__(self, model, dropout):
        super().__init__()
        V, E = model.target_embedding.weight.shape
        H = model.decoder.hidden_size
        self.start_token = model.start_token
        self.source_embedding = nn.Embedding(model.source_size, E)
        self.encoder = nn.GRU(E, H, bidirectional=True)
        self.bridge = nn.ModuleList([nn.Linear(2 * H, H)])
        self.target_embedding = nn.Embedding(V, E)
        self.decoder = nn.GRU(E, H)
        self.attention = AdditiveScore(H)
        self.combine = nn.Linear(3 * H, E, bias=False)
        self.head = nn.Linear(E, V)
        self.head.weight = self.target_embedding.weight
        self.dropout = nn.Dropout(dropout)
        self.begin_as(model)

    def loss(self, batch, state):
        source, target = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
        S, T = len(source), len(target)
        x = self.dropout(self.source_embedding(source))
        packed = pack_padded_sequence(x, torch.from_numpy(batch.lengths), enforce_sorted=False)
        read, final = self.encoder(packed)
        read = pad_packed_sequence(read, total_length=S)[0].transpose(0, 1)  # (N, S, 2 H)
        first = torch.tanh(self.bridge[0](torch.cat([final[0], final[1]], -1)))[None]
        start = torch.full_like(target[:1], self.start_token)
        heard = self.dropout(self.target_embedding(torch.cat([start, target[:-1]])))
        y, _ = self.decoder(heard, first)
        scores = self.attention(y.transpose(0, 1), read)  # (N, T, S)
        past = torch.arange(S) >= torch.from_numpy(batch.lengths)[:, None]
        weights = scores.masked_fill(past[:, None], -torch.inf).softmax(-1)
        context = (weights @ read).transpose(0, 1)
        told = self.dropout(torch.tanh(self.combine(torch.cat([context, y], -1))))
        valid = torch.arange(T)[:, None] < torch.from_numpy(batch.target_lengths)
        return nn.functional.cross_entropy(self.head(told[valid]), target[valid]), None


class LanguageTwin(Twin):
    """``rnnkit.train.LanguageModel`` of LSTM layers."""

    def __init__(self, model):
        super().__init__()
        V, E = model.embedding.weight.shape
        lstm = model.recurrent
        self.embedding = nn.Embedding(V, E)
        self.recurrent = nn.LSTM(E, lstm.hidden_size, lstm.num_layers, dropout=lstm.dropout)
        self.head = nn.Linear(lstm.hidden_size, V)
        self.dropout = nn.Dropout(model.dropout.p)
        self.begin_as(model)

    def loss(self, batch, state):
        x = self.dropout(self.embedding(torch.from_numpy(batch.inputs)))
        y, state = self.recurrent(x, state)
        scores = self.head(self.dropout(y)).flatten(0, 1)
        state = tuple(each.detach() for each in state)
        return nn.functional.cross_entropy(scores, torch.from_numpy(batch.targets).flatten()), state


def train(twin, batches, steps, lr, seconds=None):
    """As ``rnnkit.train.Trainer`` does with schedule="cosine" and its clipping, for so many steps,
    or where these are None seconds of CPU. Returns how many it were of both."""
    torch.manual_seed(int(rk.generator().integers(2**31)))
    optimizer = torch.optim.AdamW(twin.parameters(), lr=lr, weight_decay=0.01)
    state, step, used = None, 0, 0.0
    began = time.process_time()
    while used < 1.0:
        batch = batches.batch(step)
        optimizer.param_groups[0]["lr"] = lr * cosine_factor(used)
        loss, state = twin.loss(batch, None if batch.starts_epoch else state)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimizer.step()
        step += 1
        used = step / steps if steps is not None else (time.process_time() - began) / seconds
    return step, time.process_time() - began
