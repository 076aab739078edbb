"""Fixtures for the tests of the benchmark suite."""

from importlib import import_module
from types import SimpleNamespace

import pytest
from benchmark_tools import ROOT

import rnnkit as rk


@pytest.fixture
def suite(monkeypatch):
    """Imports a module of the benchmarks, which are not part of the installed package."""
    monkeypatch.syspath_prepend(ROOT)
    backend, threads = rk.get_backend(), rk.get_num_threads()
    yield lambda name: import_module(f"benchmarks.{name}")
    rk.set_backend(backend)
    rk.set_num_threads(threads)


@pytest.fixture
def clock(suite, monkeypatch):
    """Time that passes only where a test says so."""
    now = [0.0]

    def advance(seconds):
        now[0] += seconds

    fake = SimpleNamespace(perf_counter=lambda: now[0], sleep=advance)
    monkeypatch.setattr(suite("timing"), "time", fake)
    return advance
