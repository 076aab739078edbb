"""What type checkers are told of Tensor is what Tensor has."""

import ast
import inspect
from pathlib import Path

import pytest

import rnnkit as rk

SOURCE = Path(rk.__file__).parent / "autograd" / "declared.py"
DECLARED = {
    node.name: [argument.arg for argument in (*node.args.args, node.args.vararg) if argument]
    for node in ast.walk(ast.parse(SOURCE.read_text(encoding="utf-8")))
    if isinstance(node, ast.FunctionDef)
}


def installed():
    """The attributes that Tensor's own class body does not define."""
    own = {name for name, value in vars(rk.Tensor).items() if "tensor.py" in origin(value)}
    return {name for name in vars(rk.Tensor) if name not in own}


def origin(value):
    value = value.fget if isinstance(value, property) else value
    code = getattr(value, "__code__", None)
    return code.co_filename if code else "tensor.py"


def test_every_installed_method_is_declared_and_the_other_way_round():
    assert installed() == set(DECLARED)


@pytest.mark.parametrize("name", [name for name in DECLARED if not name.startswith("__")])
def test_parameters_have_the_declared_names(name):
    method = getattr(rk.Tensor, name)
    if isinstance(method, property):
        return
    found = inspect.signature(method).parameters
    assert list(found)[1:] == DECLARED[name][1:]
