"""Every public function and class that does something has an example in its docstring, and the examples run."""

import asyncio
import doctest
import inspect
import os
import shutil
import signal
import warnings
from pathlib import Path

import pytest

import isplit

# In this order, because later examples use what earlier ones wrote.
ORDER = (
    "load_model open_data check_data list_cuts split_model analyze open_study predict fit fit_remote verify export "
    "profile write_report simulate probe bench serve serving auto"
).split()
SETTINGS = (
    "AnalyzeSettings AutoSettings BenchSettings ExportSettings FitSettings PredictSettings ProbeSettings "
    "ProfileSettings SplitFilter"
).split()


@pytest.fixture(scope="module")
def folder(tiny_model_file, tiny_weights, tiny_data, tmp_path_factory) -> Path:
    """A working directory with the network, the weights and the photographs that the examples name."""
    directory = tmp_path_factory.mktemp("examples")
    shutil.copy(tiny_model_file, directory / "net.py")
    shutil.copy(tiny_weights, directory / "net.safetensors")
    shutil.copytree(tiny_data, directory / "photos")
    return directory


def examples(name: str) -> list[doctest.DocTest]:
    """Return the examples in the docstring of a public name."""
    value = getattr(isplit, name)
    import torch

    finder = doctest.DocTestFinder(recurse=False)
    modules = {module.__name__: module for module in (asyncio, isplit, os, signal, torch)}
    tests = finder.find(value, name, module=False, globs={**modules, "Path": Path, name: value})
    return [test for test in tests if test.examples]


def check(name: str) -> None:
    """Run the examples of a public name."""
    tests = examples(name)
    assert tests, f"isplit.{name} has no example in its docstring"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    for test in tests:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what speaks against so small a study
            runner.run(test, out=said.append)
    assert 0 == runner.failures, "".join(said)


def test_design_functions_in_their_order(folder, monkeypatch):
    """From a model and data to a bundle, as the docstrings show it."""
    monkeypatch.chdir(folder)
    failures = []
    for name in ORDER:
        try:
            check(name)
        except AssertionError as failure:
            failures.append(str(failure))
    assert not failures, "\n".join(failures)


@pytest.mark.ray
def test_cuts_on_a_cluster(folder, monkeypatch):
    """`fit_on_ray` on a cluster of its own."""
    monkeypatch.chdir(folder)
    check("analyze")
    check("fit_on_ray")


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name):
    """The example in each settings class."""
    check(name)


def test_every_public_function_has_an_example():
    """A function that is exported has an example, and the tests above run it."""
    functions = {name for name in isplit.__all__ if inspect.isfunction(getattr(isplit, name))}
    without = {name for name in functions if ">>>" not in (inspect.getdoc(getattr(isplit, name)) or "")}
    assert set() == without
    assert {*ORDER, "fit_on_ray"} == functions
