"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import pytest

import graphflops

MODULES = sorted(module.name for module in pkgutil.walk_packages(graphflops.__path__, "graphflops."))


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_the_examples_of(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    modules = [importlib.import_module(name) for name in MODULES if not name.endswith("__main__")]
    assert sum(len(test.examples) for module in modules for test in doctest.DocTestFinder().find(module)) > 8
