"""Private names of torch: used in one place, where it is said why."""

import ast
from pathlib import Path

from jaxact.interop import _torch_program


def private_names(file):
    """Return the names in a file that begin with one underscore and are none of its own objects or modules."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and not node.module.startswith("jaxact"):
            yield from (part for part in node.module.split(".") if part.startswith("_"))
        private = isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__")
        if private and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            yield node.attr


def test_private_names_of_torch_are_in_one_place():
    known = {
        "_torch_private.py": {
            "_guards",
            "_subclasses",
            "_python_dispatch",
            "_C",
            "_len_torch_dispatch_stack",
            "_functorch",
            "_autograd",
            "_top_saved_tensors_default_hooks",
            "_version",
            "_decomp",
            "_schema",
        },
        "_dense.py": {
            "_C",
            "_len_torch_dispatch_stack",
        },  # asked at every conversion
        "_graph_call.py": {"_dynamo"},  # where it is documented, up to torch 2.13
    }
    elsewhere = {"_declared", "_fields", "_getframe"}  # of jaxact and of Python
    for file in Path(_torch_program.__file__).parent.rglob("*.py"):
        assert set(private_names(file)) - elsewhere == known.get(file.name, set()), file
