"""Two numbers among hundreds: which networks can add what lies far apart?

The adding problem of Hochreiter and Schmidhuber 1997, in the form of Le, Jaitly and Hinton 2015
(arXiv 1504.00941) and Bai, Kolter and Koltun 2018 (arXiv 1803.01271). Many-to-one: T numbers
between 0 and 1 come one after the other, two of them marked, and at the end their sum is asked
for. Who has forgotten the marked ones can only say 1, with a mean squared error of 1/6; below 0.01
the problem counts as solved here.

    python examples/adding_problem.py --steps 200 --updates 4000      (or 600 steps)

* A plain RNN (tanh) fails. A gradient that goes back through it shrinks at every step, so nothing
  tells the weights what happened a few dozen steps ago.
* The same RNN with relu, whose recurrent weights begin as the identity, loses nothing at first: the
  IRNN of Le et al. It stands on an edge, so it wants small steps and a tight clip.
* LSTM and GRU carry a state on instead of computing it anew. The LSTM's gates begin open for
  memories of up to T steps (chrono: Tallec and Ollivier 2018, arXiv 1804.11188); with its usual
  start it sits at 1/6 for thousands of updates.

The picture shows it before any training: the norm of the loss's gradient with respect to the state
at each step, as `rk.diagnostics.trace` sees it. The line of the RNN falls off a cliff.

The data are drawn as they are needed: no sequence is seen twice. Without options T is 60.
"""

import argparse
import sys

import numpy as np

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.data import PositionedBatches, SequenceBatch
from rnnkit.train import Budget, Loss, Measure, Observer, Trainer, progress_on

BASELINE, SOLVED = 1 / 6, 0.01


class Adding(PositionedBatches):
    """New sequences at every position, and always the same at the same position."""

    def __init__(self, steps, batch_size=32, batches_per_epoch=100, seed=0):
        self.steps, self.batch_size, self.seed = steps, batch_size, seed
        self.batches_per_epoch = batches_per_epoch

    def batch(self, position):
        random = np.random.default_rng([self.seed, position])
        T, N, rows = self.steps, self.batch_size, np.arange(self.batch_size)
        x = np.zeros((T, N, 2), np.float32)
        x[..., 0] = random.random((T, N))
        marked = random.random((T, N)).argsort(0)[:2]  # two different steps for each row
        x[marked, rows, 1] = 1
        sums = x[marked, rows, 0].sum(0)
        return SequenceBatch(position, True, x, np.full(N, T), sums[:, None], None, rows)

    def epoch(self):
        return (self.batch(k) for k in range(self.batches_per_epoch))


class Adder(rk.Module):
    def __init__(self, recurrent):
        super().__init__()
        self.recurrent, self.head = recurrent, nn.Linear(recurrent.hidden_size, 1)

    def loss(self, batch, state=None):
        last, _ = self.recurrent(rk.tensor(batch.inputs), return_sequences=False)
        return Loss(losses.mse_loss(self.head(last), batch.targets), len(batch.rows))


# How each network is made for T steps and H units, and its learning rate.
NETWORKS = {
    "RNN": (lambda T, H: nn.RNN(2, H), 1e-3),
    "IRNN": (lambda T, H: nn.init.irnn_(nn.RNN(2, H, nonlinearity="relu"), std=0.03), 5e-4),
    "LSTM": (lambda T, H: nn.init.chrono_(nn.LSTM(2, H), T), 1e-2),
    "GRU": (lambda T, H: nn.GRU(2, H), 1e-2),
}


class SolvedAt(Observer):
    """At which update a validation was first below the error that counts as solved."""

    step = None

    def on_validation(self, validation):
        if self.step is None and validation.loss < SOLVED:
            self.step = validation.step


def look(model, batch):
    """How the gradient flows back through an untrained model."""
    with rk.diagnostics.trace(model) as seen:
        model.loss(batch).value.backward()
    model.zero_grad()
    return seen["recurrent.l0"]


def draw(traces, path):
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no picture: it needs matplotlib (pip install 'rnnkit[plot]')")
        return
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, trace in traces.items():
        norms = trace.norms()
        axes.semilogy(np.where(norms > 0, norms, np.nan) / norms[-1], label=name)
    axes.set_xlabel("step t")
    axes.set_ylabel("norm of dL/dh_t, relative to the last step")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=100)
    print(f"how the gradient flows: {path}")


def main():
    parser = argparse.ArgumentParser(description="Which networks can add what lies far apart?")
    parser.add_argument("--steps", type=int, default=60, help="length T of the sequences")
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--picture", default="adding_problem.png", help="file to draw to")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    T = options.steps
    test = Adding(T, batch_size=100, batches_per_epoch=5, seed=10_000)
    print(f"T = {T}; always to say 1 has a mean squared error of {BASELINE:.4f}")
    traces, results = {}, {}
    for name in options.networks:
        make, learning_rate = NETWORKS[name]
        rk.manual_seed(options.seed)
        model, solved = Adder(make(T, options.hidden)), SolvedAt()
        traces[name] = look(model, test.batch(0))
        trainer = Trainer(
            model,
            optim.Adam(model.parameters(), lr=learning_rate),
            Adding(T, seed=options.seed),
            test,
            budget=Budget(steps=options.updates),
            schedule="cosine",
            clip=0.1,  # without it the IRNN falls off its edge
            measure=Measure(items="sequences"),
            observers=[solved, progress_on(sys.stderr)],
        )
        trainer.fit()
        results[name] = trainer.evaluate(test)["loss"]
        when = f"solved after {solved.step} updates" if solved.step else "not solved"
        print(
            f"{name:5} mean squared error {results[name]:.2e}, {when}; a gradient is multiplied "
            f"by {traces[name].factor():.3f} a step before training"
        )
    draw(traces, options.picture)
    return results


if __name__ == "__main__":
    main()
