"""Shared by all tests: every test starts from the same random numbers."""

import pytest

import rnnkit as rk


@pytest.fixture(autouse=True)
def _same_random_numbers():
    rk.manual_seed(0)
