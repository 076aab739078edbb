"""Forecasting series, and being honest about it: many-to-many over time.

A forecaster is worth what it adds to a guess that costs nothing. Three such guesses are beside
every network here: that all stays as it is (naive), that it goes on as it has gone on average
(drift), and that it comes as it came a season ago (seasonal naive). The test is a backtest: for
every moment of the last third of a series the coming moments are forecast from those before, by a
network that was fitted on the past alone, and fitted anew four times on the way. Scaling and
differences are learnt from the same past. No setting was tried out on the last third: all series
have the same network and training, and only the window, the horizon and the link are their own.

**Data.** Monthly airline passengers 1949 to 1960 (Box and Jenkins 1976, series G) are below. With
a folder also, where they are found there:

    monthly-sunspots.csv, daily-min-temperatures.csv    github.com/jbrownlee/Datasets
    sp500*.csv    data/data.csv of github.com/datasets/s-and-p-500 under that name: monthly, from
                  1871 on, by Shiller; what counts is the column SP500

**Model.** A GRU of 16 units reads a window; a linear layer, all zeros at first, tells the horizon.
What it tells is added to the last moment (of a series of differences: to their mean), so that each
network begins as one of the guesses, and learns in what way that is wrong. Three networks vote.

**What to expect.** Passengers, sunspots and temperatures have something to be learnt. Stock prices
are the place to be suspicious. Those here are means over the days of a month, and the changes of
means are correlated even where the changes of prices are not (Working 1960): what a network gains
in the first month is that, and nobody can buy at the mean of a month. Over a year nothing is left.

    python examples/series.py                       # passengers, a few seconds
    python examples/series.py --data timeseries/    # all four, not many more
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.data import (
    SeriesTransform,
    SeriesWindows,
    naive,
    read_table,
    rmse,
    rolling_origins,
    seasonal_naive,
)
from rnnkit.train import Budget, Loss, Trainer

# fmt: off
PASSENGERS = [
    112, 118, 132, 129, 121, 135, 148, 148, 136, 119, 104, 118,  # 1949
    115, 126, 141, 135, 125, 149, 170, 170, 158, 133, 114, 140,
    145, 150, 178, 163, 172, 178, 199, 199, 184, 162, 146, 166,
    171, 180, 193, 181, 183, 218, 230, 242, 209, 191, 172, 194,
    196, 196, 236, 235, 229, 243, 264, 272, 237, 211, 180, 201,
    204, 188, 235, 227, 234, 264, 302, 293, 259, 229, 203, 229,
    242, 233, 267, 269, 270, 315, 364, 347, 312, 274, 237, 278,
    284, 277, 317, 313, 318, 374, 413, 405, 355, 306, 271, 306,
    315, 301, 356, 348, 355, 422, 465, 467, 404, 347, 305, 336,
    340, 318, 362, 348, 363, 435, 491, 505, 404, 359, 310, 337,
    360, 342, 406, 396, 420, 472, 548, 559, 463, 407, 362, 405,
    417, 391, 419, 461, 472, 535, 622, 606, 508, 461, 390, 432,
]
# fmt: on


class Kind(NamedTuple):
    """What there is to know of a series before one looks at it."""

    name: str
    file: str  # a pattern
    unit: str  # of the errors
    season: int
    window: int
    horizon: int
    lag: int  # the network sees differences to so many moments ago; 0: the values
    link: tuple  # what is taken of the values, and how to get back to the unit of the errors
    column: str | int = 1
    calendar: float = 0.0  # moments of a year, where the network is told the time of the year


LOG, ROOT, PLAIN = (np.log, np.exp), (np.sqrt, lambda x: np.maximum(x, 0) ** 2), (np.array,) * 2
PERCENT = (lambda x: 100 * np.log(x), np.array)
KINDS = [
    Kind("airline passengers", "airline*.csv", "thousand", 12, 24, 12, 12, LOG),
    Kind("sunspots", "monthly-sunspots.csv", "spots", 132, 48, 12, 0, ROOT),
    Kind("lowest temperatures", "daily-min*.csv", "degrees", 365, 28, 7, 0, PLAIN, calendar=365.25),
    Kind("S&P 500", "sp500*.csv", "per cent", 12, 24, 12, 1, PERCENT, column="SP500"),
]

parser = argparse.ArgumentParser(description="Forecasts of four series, backtested.")
parser.add_argument("--data", help="folder of CSV files; airline passengers without")
parser.add_argument("--updates", type=int, default=300, help="of each network")
parser.add_argument("--networks", type=int, default=3, help="that vote")
parser.add_argument("--seed", type=int, default=0)


class Forecaster(rk.Module):
    """Windows (T, N, C) -> (horizon, N, 1)."""

    def __init__(self, channels, horizon, from_last):
        super().__init__()
        self.gru, self.head = nn.GRU(channels, 16), nn.Linear(16, horizon)
        self.from_last = from_last
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, window):
        window = rk.tensor(window)
        last, _ = self.gru(window, return_sequences=False)
        told = self.head(last) + window[-1, :, :1] if self.from_last else self.head(last)
        return told.T.unsqueeze(-1)

    def loss(self, batch, state=None):
        value = losses.mse_loss(self(batch.inputs), rk.tensor(batch.targets))
        return Loss(value, len(batch.rows))


def backtest(series, kind, options):
    """Forecasts of each kind and the truth, all (origins, horizon), in the link's unit."""
    values = series[:, :1]
    found = {"network": [], "naive": [], "drift": [], "seasonal": [], "truth": []}
    origins = rolling_origins(len(series), len(series) * 2 // 3, kind.horizon, step=1)
    for known, told in origins:
        past = values[slice(*known)]
        steps = np.arange(1, kind.horizon + 1)[:, None]
        found["naive"].append(naive(past, kind.horizon))
        found["drift"].append(past[-1] + steps * np.diff(past, axis=0).mean(0))
        found["seasonal"].append(seasonal_naive(past, kind.horizon, kind.season))
        found["truth"].append(values[slice(*told)])
    for stretch in np.array_split(origins, 4):
        begin, end = int(stretch[0, 1, 0]), int(stretch[-1, 1, 1])
        transform = SeriesTransform.fit(series[:begin], lag=kind.lag)

        def windows(part, batch_size, transform=transform):
            return SeriesWindows(series, window=kind.window, horizon=kind.horizon, channels=[0],
                                 batch_size=batch_size, transform=transform, part=part,
                                 seed=options.seed)  # fmt: skip

        votes = []
        for _ in range(options.networks):
            model = Forecaster(series.shape[1], kind.horizon, from_last=kind.lag == 0)
            optimizer = optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.1)
            Trainer(model, optimizer, windows((0, begin), 64), schedule="cosine",
                    budget=Budget(steps=options.updates)).fit()  # fmt: skip
            asked = windows((begin, end), 256)
            with rk.no_grad():
                told = [asked.forecasts(model(each.inputs).data, each.rows)
                        for each in asked.epoch()]  # fmt: skip
            votes.append(np.concatenate(told, 1))
        found["network"].extend(np.mean(votes, 0).transpose(1, 0, 2))
    return {name: np.stack(each)[..., 0] for name, each in found.items()}


def report(kind, forecasts, length):
    truth = forecasts.pop("truth")
    print(f"\n{kind.name}: {length:,} moments, {len(truth):,} forecasts of {kind.horizon}")
    print(f"  {'root mean squared error':24}" + "".join(f"{name:>10}" for name in forecasts))
    for title, steps in (("first step", [0]), ("last step", [-1]), ("all steps", slice(None))):
        errors = [rmse(each[:, steps], truth[:, steps]) for each in forecasts.values()]
        print(f"  {title:24}" + "".join(f"{error:10.4g}" for error in errors) + f"  {kind.unit}")
    network, *guesses = errors  # of all steps
    gain = 1 - network / min(guesses)
    if gain > 0.02:
        print(f"  The network beats every guess, the best of them by {gain:.0%}.")
    else:
        best = list(forecasts)[1 + int(np.argmin(guesses))]
        word = "no better than" if gain > -0.02 else f"worse, by {-gain:.0%}, than"
        print(f"  The network is {word} the guess called {best}. Do not use it.")


def main():
    options = parser.parse_args()
    rk.manual_seed(options.seed)
    for kind in KINDS:
        if options.data is None:
            values = np.array(PASSENGERS, float)
        else:
            paths = sorted(Path(options.data).glob(kind.file))
            if not paths:
                print(f"\n{kind.name}: there is no {kind.file} in {options.data}")
                continue
            values = read_table(paths[0], [kind.column]).values[:, 0]
        take, back = kind.link
        series = take(values)[:, None]
        if kind.calendar:
            turn = 2 * np.pi * np.arange(len(series))[:, None] / kind.calendar
            series = np.concatenate([series, np.sin(turn), np.cos(turn)], 1)
        forecasts = backtest(series, kind, options)
        report(kind, {name: back(each) for name, each in forecasts.items()}, len(series))
        if options.data is None:
            break
    print(f"\n{time.process_time():.0f} s of CPU")


if __name__ == "__main__":
    main()
