"""The package as others see it: it imports without torch, its exports are in order, and the README's code runs."""

import inspect
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import isplit

ROOT = Path(__file__).parents[1]

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "timm", "safetensors"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def python(code, *args, code_expected=0):
    """Run code in a fresh interpreter in which torch and its kin are not installed."""
    command = [sys.executable, "-W", "error", "-c", BLOCKER + code, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert code_expected == done.returncode, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    "name", ["isplit", "isplit.records", "isplit.codec", "isplit.codec.image", "isplit.report", "isplit.cli"]
)
def test_imports_without_torch(name):
    """What a device or a reader of studies needs is imported where there is no torch."""
    python(f"import {name}")


def test_import_is_light():
    """`import isplit` loads neither torch nor any other large library."""
    code = (
        "import isplit\n"
        "heavy = {'torch', 'torchvision', 'timm', 'sklearn', 'scipy', 'matplotlib', 'plotly', 'numpy', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    assert "[]" == python(code).stdout.strip()


def test_errors_without_torch():
    """The exceptions can be named where there is no torch."""
    python("import isplit; assert issubclass(isplit.MissingExtraError, isplit.InputError)")


def test_api_without_torch():
    """The functions that need torch say which pip install brings it when they are asked for."""
    code = (
        "import isplit\n"
        "try:\n"
        "    isplit.analyze\n"
        "except ImportError as error:\n"
        "    print(error)\n"
        "except isplit.MissingExtraError as error:\n"
        "    print(error)\n"
    )
    assert "isplit[design]" in python(code).stdout


@pytest.mark.parametrize("verb", ["", "analyze"])
def test_help_without_torch(verb):
    """Help needs no torch."""
    done = python("from isplit.cli import main; main()", *verb.split(), "--help")
    assert "Usage" in done.stdout


@pytest.mark.parametrize("arguments", ["analyze torchvision:vgg16 sklearn:digits", "cuts torchvision:vgg16", "demo"])
def test_verb_without_torch(arguments):
    """A verb whose extra is missing says which pip install brings it, and exits 2."""
    done = python("from isplit.cli import main; main()", *arguments.split(), code_expected=2)
    assert "pip install 'isplit[design]'" in done.stderr
    assert "" == done.stdout


def test_exports_are_sorted():
    """`isplit.__all__` is sorted, without doubles, and shown by dir()."""
    assert sorted(set(isplit.__all__)) == list(isplit.__all__)
    assert set(isplit.__all__) <= set(dir(isplit))


def test_types_of_public_functions_are_exported():
    """What a public function takes or returns is a name of the package, or a type of Python, of pathlib or of torch."""
    foreign = {"Any", "Callable", "Generator", "Iterable", "Literal", "Mapping", "Module", "None", "Optional", "Path"}
    foreign |= {"Sequence"}
    # `plan` takes any object with a study's directory, and from `auto` the facts of a study without predictions.
    foreign |= {"HasDirectory", "StudyFacts"}
    from isplit.plan.planner import plan  # `isplit.plan` is also a package

    public = {name: getattr(isplit, name) for name in isplit.__all__} | {"plan": plan}
    functions = {name: value for name, value in public.items() if inspect.isfunction(value)}
    assert {"analyze", "load_model", "plan", "serve"} <= functions.keys()
    for name, function in functions.items():
        signature = inspect.signature(function)
        # The text of a default may hold names that are no types.
        bare = [parameter.replace(default=parameter.empty) for parameter in signature.parameters.values()]
        types = set(re.findall(r"\b[A-Z][A-Za-z]+\b", str(signature.replace(parameters=bare))))
        assert set() == types - foreign - set(isplit.__all__), name


def test_public_classes_say_what_they_are():
    """No object of a public class shows itself as an address in memory."""
    classes = {name: value for name in isplit.__all__ if inspect.isclass(value := getattr(isplit, name))}
    shown_by_default = {name for name, value in classes.items() if value.__repr__ is object.__repr__}
    # These are contracts without objects of their own.
    assert {"EngineFactory", "ImportanceMethod", "TransferSampler"} == shown_by_default


@pytest.mark.parametrize("name", isplit.__all__)
def test_export_resolves(name):
    """Every public name is there and says what it is."""
    assert getattr(isplit, name).__doc__


def test_unknown_name():
    """A name that is not there is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="nonsense"):
        isplit.nonsense  # noqa: B018


def test_console_script():
    """The distribution installs the command `isplit`."""
    (script,) = entry_points(group="console_scripts", name="isplit")
    assert "isplit.cli:main" == script.value


def test_is_typed():
    """Type checkers are told that the package has types."""
    assert Path(isplit.__file__).with_name("py.typed").exists()


def readme_code():
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    examples = [block for block in blocks if block.startswith("import isplit")]
    assert examples, "README.md has no Python example that starts with `import isplit`"
    return examples[0]


def test_readme_example_is_short():
    """The whole job takes at most six lines of Python."""
    assert len([line for line in readme_code().splitlines() if line.strip()]) <= 6


def test_readme_example_runs(demo, monkeypatch):
    """The README's example runs as it stands, where the demo was run."""
    directory, result = demo
    assert 0 == result.code, result.err
    monkeypatch.chdir(directory)
    exec(compile(readme_code(), "README.md", "exec"), {})
    assert (directory / "study" / "candidates.json").exists()


def test_readme_without_example(tmp_path, monkeypatch):
    """A README whose example is gone fails these tests."""
    (tmp_path / "README.md").write_text("# isplit\n", "utf-8")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    with pytest.raises(AssertionError, match="no Python example"):
        readme_code()


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("", ""), ("1", "1")])
def test_nothing_is_reported(before, after):
    """Onnxruntime reports nothing to its makers once isplit is imported, unless the user has said so."""
    name = "ORT_DISABLE_TELEMETRY"
    environment = {key: value for key, value in os.environ.items() if key != name}
    if before is not None:
        environment[name] = before
    code = f"import os, isplit; print(repr(os.environ[{name!r}]))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=240)
    assert repr(after) == done.stdout.strip()
