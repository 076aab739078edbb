"""Builds the extension, compiles some of the Python; all else is declared in pyproject.toml."""

import os
from concurrent.futures import ThreadPoolExecutor
from glob import glob

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Compilers at once take half a gigabyte each.
JOBS = min(os.cpu_count() or 1, 8)

# What every call of a layer goes through. Interpreted, it is most of a small layer's training step;
# compiled as it stands, it takes little more than half of that time.
COMPILED = [
    "rnnkit/checks.py",
    "rnnkit/module.py",
    "rnnkit/autograd/accumulate.py",
    "rnnkit/autograd/checks.py",
    "rnnkit/autograd/function.py",
    "rnnkit/autograd/grad_mode.py",
    "rnnkit/autograd/node.py",
    "rnnkit/autograd/primitive.py",
    "rnnkit/autograd/tape.py",
    "rnnkit/autograd/tensor.py",
    "rnnkit/backend/dispatch.py",
    "rnnkit/backend/extension.py",
    "rnnkit/cells/base.py",
    "rnnkit/nn/recurrent.py",
    "rnnkit/recurrent/held.py",
    "rnnkit/recurrent/layer.py",
    "rnnkit/recurrent/native.py",
    "rnnkit/recurrent/node.py",
    "rnnkit/recurrent/options.py",
    "rnnkit/recurrent/schedule.py",
    "rnnkit/recurrent/stream.py",
    "rnnkit/recurrent/program/direction.py",
    "rnnkit/recurrent/program/hoisted.py",
    "rnnkit/recurrent/program/invariants.py",
    "rnnkit/recurrent/program/passes.py",
    "rnnkit/recurrent/program/planned.py",
    "rnnkit/recurrent/program/prepared.py",
    "rnnkit/recurrent/program/run.py",
    "rnnkit/recurrent/program/settings.py",
    "rnnkit/recurrent/program/steps.py",
]


def compiled(path: str) -> Extension:
    """An extension module of a file of Python, which is imported in its stead.

    A file.pxd beside it lists the attributes of classes that then keep them in a C structure, and
    gives variables types.
    """
    # The warnings would be about what Cython writes.
    name = path.removesuffix(".py").replace("/", ".")
    extension = Extension(
        name, [path], depends=glob("rnnkit/**/*.pxd", recursive=True),  # they refer to each other
        include_dirs=[numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        extra_compile_args=["-O2", "-g0", "-w"],
    )
    extension.cython_directives = {
        "annotation_typing": False,
        "auto_pickle": False,
        "nonecheck": True,  # of what a .pxd gives a type
    }
    return extension


class BuildSideBySide(build_ext):
    """Compiles the files of an extension as it does extensions: several at once."""

    def build_extensions(self) -> None:
        compile_ = self.compiler.compile

        def side_by_side(sources, *args, **kwargs):
            with ThreadPoolExecutor(JOBS) as pool:
                objects = pool.map(lambda each: compile_([each], *args, **kwargs), sources)
                return [each for of_source in objects for each in of_source]

        self.compiler.compile = side_by_side
        super().build_extensions()


setup(
    cmdclass={"build_ext": BuildSideBySide},
    ext_modules=[
        Extension(
            "rnnkit.backend._native",
            sources=["rnnkit/backend/_native.pyx", *sorted(glob("csrc/**/*.c", recursive=True))],
            depends=[*sorted(glob("csrc/**/*.h", recursive=True)), *glob("rnnkit/backend/*.pxi")],
            include_dirs=["csrc", numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
            libraries=["m"],
            # Contraction is off so that a product and a sum fuse only where a kernel asks for it:
            # the bitwise promises rest on every element being one chain of known operations.
            extra_compile_args=["-std=gnu11", "-O3", "-ffp-contract=off", "-fvisibility=hidden",
                                "-Wall", "-Wextra", "-pthread", "-g0"],
            extra_link_args=["-pthread"],
        ),
        *map(compiled, COMPILED),
    ],
    options={"build_ext": {"parallel": JOBS}},
)
