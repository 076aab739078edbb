"""Normal random numbers, the same ones for the same shape and seed."""

import numpy as np

import rnnkit as rk


def numbers(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def leaf(*shape, seed=0):
    return rk.tensor(numbers(*shape, seed=seed), requires_grad=True)
