# %% [markdown]
# # Why simple recurrent networks forget, and what helps
#
# On its way back through time a gradient is multiplied by the Jacobian of the recurrent step, once
# for every step. Where these shrink it, it vanishes: a network cannot learn from what happened
# long ago, because no trace of it reaches the weights (Hochreiter 1991; Bengio et al. 1994). Where
# they stretch it, it explodes (Pascanu et al. 2013, arXiv 1211.5063).
#
# Here a plain RNN, an RNN of orthogonal weights, an IRNN, a GRU and two LSTMs meet the *adding
# problem* (Hochreiter and Schmidhuber 1997): of T random numbers two are marked, the first
# somewhere in the first half, the second in the other half, and their sum is to be told at the end.
# Who cannot reach back half a sequence does no better than to answer 1 always, with a squared
# error of 1/6, the variance of the sum of two uniform numbers.
#
# Run it as a script (`python examples/vanishing_gradients.py --help`) or cell by cell.

# %%
import argparse
import sys
import warnings

import numpy as np

import rnnkit as rk
from rnnkit import losses, nn, optim

parser = argparse.ArgumentParser(description="Vanishing gradients on the adding problem.")
parser.add_argument("--steps", type=int, default=80, help="length T of a sequence")
parser.add_argument("--hidden", type=int, default=32, help="hidden units H")
parser.add_argument("--batch", type=int, default=32, help="sequences in a batch, N")
parser.add_argument("--updates", type=int, default=1200, help="training steps of each network")
parser.add_argument("--picture", default="vanishing_gradients.png", help="file to draw to")
options = parser.parse_args([] if "ipykernel" in sys.modules else None)
T, H, N = options.steps, options.hidden, options.batch

# %% [markdown]
# ## The problem


# %%
def adding_problem(random):
    """x (T, N, 2): a number and a mark; the sums of the marked numbers, (N, 1)."""
    x = np.zeros((T, N, 2), np.float32)
    x[..., 0] = random.uniform(size=(T, N))
    rows = np.arange(N)
    first, second = random.integers(0, T // 2, N), random.integers(T // 2, T, N)
    x[first, rows, 1] = x[second, rows, 1] = 1
    return rk.tensor(x), rk.tensor((x[first, rows, 0] + x[second, rows, 0])[:, None])


BASELINE = 1 / 6

# %% [markdown]
# ## The networks, and the remedies among them
#
# * **orthogonal**: recurrent weights that keep the length of a vector; the tanh still shrinks it
#   (Saxe et al. 2014).
# * **IRNN**: the identity and relu, so that at first nothing at all is lost (Le et al. 2015,
#   arXiv 1504.00941). It stands on an edge and needs small steps.
# * **GRU**, **LSTM**: a state that is carried on by gates instead of being computed anew.
# * **chrono**: an LSTM whose forget gates begin open for as long as the sequence may ask: b_f is
#   ln U(1, T - 1), and b_i its negative (Tallec and Ollivier 2018, arXiv 1804.11188).


# %%
def plain():
    return nn.RNN(2, H)


def orthogonal():
    rnn = nn.RNN(2, H)
    nn.init.orthogonal_(rnn.weight_hh_l0)
    return rnn


def identity():
    rnn = nn.RNN(2, H, nonlinearity="relu")
    nn.init.eye_(rnn.weight_hh_l0)
    nn.init.normal_(rnn.weight_ih_l0, std=0.05)
    for bias in (rnn.bias_ih_l0, rnn.bias_hh_l0):
        nn.init.zeros_(bias)
    return rnn


def gru():
    return nn.GRU(2, H)


def lstm():
    return nn.LSTM(2, H)


def chrono():
    net = nn.LSTM(2, H)
    for bias in (net.bias_ih_l0, net.bias_hh_l0):
        nn.init.zeros_(bias)
    input_gate, forget_gate = slice(0, H), slice(H, 2 * H)
    b_f = np.log(rk.generator().uniform(1, max(2, T - 1), H))
    net.bias_ih_l0.data[forget_gate] = b_f
    net.bias_ih_l0.data[input_gate] = -b_f
    return net


# name: how it is made, and its learning rate
NETWORKS = {
    "RNN": (plain, 0.01),
    "RNN orthogonal": (orthogonal, 0.01),
    "IRNN": (identity, 0.002),
    "GRU": (gru, 0.01),
    "LSTM": (lstm, 0.01),
    "LSTM chrono": (chrono, 0.01),
}

# %% [markdown]
# ## Looking at a gradient
#
# Under `rk.diagnostics.trace()` every layer keeps its states, its gates and, after the backward
# pass, dL/dh_t: by how much the loss would change if the hidden state at step t were nudged. The
# loss is taken at the end, so the gradient begins there and what is left of it at step 0 has come
# all the way.


# %%
def predict(net, head, x):
    last, _ = net(x, return_sequences=False)
    return head(last)


def look(net, head):
    """The layer's trace on one batch, always the same one."""
    x, target = adding_problem(np.random.default_rng(1))
    with rk.diagnostics.trace(net) as seen:
        losses.mse_loss(predict(net, head, x), target).backward()
    net.zero_grad()
    head.zero_grad()
    return seen["l0"]


def train(net, head, lr):
    """Returns the mean loss over the last tenth of the training."""
    random = np.random.default_rng(0)
    parameters = [*net.parameters(), *head.parameters()]
    optimizer = optim.Adam(parameters, lr=lr)
    history = []
    for _ in range(options.updates):
        x, target = adding_problem(random)
        loss = losses.mse_loss(predict(net, head, x), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)  # the remedy for the rare explosion
        optimizer.step()
        history.append(loss.item())
    return float(np.mean(history[-max(1, len(history) // 10) :]))


# %% [markdown]
# ## Before and after training
#
# The factor is what |dL/dh_t| is multiplied by at each step back, the memory the number of steps
# until 1/e of it is left. (`print(trace.report())` shows these and more for any network.)

# %%
results = {}
print(f"adding problem, T={T}: predicting the mean gives a loss of {BASELINE:.4f}\n")
print(f"{'':16}{'before training':>22}{'after training':>24}")
print(f"{'network':16}{'factor':>10}{'memory':>12}{'factor':>12}{'memory':>12}{'loss':>10}")
for name, (make, lr) in NETWORKS.items():
    rk.manual_seed(1)
    net, head = make(), nn.Linear(H, 1)
    before = look(net, head)
    final_loss = train(net, head, lr)
    after = look(net, head)
    results[name] = before, after, final_loss
    verdict = "learned" if final_loss < BASELINE / 4 else "no better than the mean"
    print(
        f"{name:16}{before.factor():10.4f}{before.memory_length():12.1f}"
        f"{after.factor():12.4f}{after.memory_length():12.1f}{final_loss:10.4f}  {verdict}"
    )

# %% [markdown]
# ## As a picture
#
# A straight line on the logarithmic axis is one factor at every step.

# %%
try:
    from matplotlib.figure import Figure
except ImportError:
    print("\nnorms of dL/dh_t before training (install matplotlib for a picture)")
    shown = np.unique(np.linspace(0, T - 1, 6).astype(int))
    print(f"{'t':16}" + "".join(f"{t:10}" for t in shown))
    for name, (before, _, _) in results.items():
        print(f"{name:16}" + "".join(f"{before.norms()[t]:10.1e}" for t in shown))
else:
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    for axes, which, title in zip(
        figure.subplots(1, 2, sharey=True), (0, 1), ("before training", "after"), strict=True
    ):
        for name, result in results.items():
            norms = result[which].norms()
            # Relative to the last step, so that networks of other losses can be compared.
            axes.semilogy(np.where(norms > 0, norms, np.nan) / norms[-1], label=name)
        axes.set_title(title)
        axes.set_xlabel("step t")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("norm of dL/dh_t, relative to the last step")
    figure.axes[1].legend(fontsize="small")
    figure.savefig(options.picture)
    print(f"\ngradients over time: {options.picture}")

# %% [markdown]
# ## Being warned
#
# `rk.diagnostics.watch` looks at every so many-th training step and warns. Recurrent weights that
# stretch explode instead; clipping by the norm keeps the step in bounds (Pascanu et al. 2013).

# %%
rk.manual_seed(1)
net, head = nn.RNN(2, H, nonlinearity="relu"), nn.Linear(H, 1)
nn.init.orthogonal_(net.weight_hh_l0, gain=2.0)
x, target = adding_problem(np.random.default_rng(1))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with rk.diagnostics.watch(net, every=10):
        losses.mse_loss(predict(net, head, x), target).backward()
for warning in caught:
    print(f"\n{warning.category.__name__}: {warning.message}")
norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
clipped = nn.utils.clip_grad_norm_(net.parameters(), np.inf)
print(f"norm of all gradients: {norm:.3g}, after clipping: {clipped:.3g}")
