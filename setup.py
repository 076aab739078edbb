"""Builds the one native extension; everything else is declared in pyproject.toml."""

from glob import glob

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "rnnkit.backend._native",
            sources=["rnnkit/backend/_native.pyx", *sorted(glob("csrc/**/*.c", recursive=True))],
            depends=[*sorted(glob("csrc/**/*.h", recursive=True)), *glob("rnnkit/backend/*.pxi")],
            include_dirs=["csrc"],
            # Contraction is off so that a product and a sum fuse only where a kernel asks for it:
            # the bitwise promises rest on every element being one chain of known operations.
            extra_compile_args=["-std=gnu11", "-O3", "-ffp-contract=off", "-fvisibility=hidden",
                                "-Wall", "-Wextra", "-pthread", "-g0"],
            extra_link_args=["-pthread"],
        )
    ]
)
