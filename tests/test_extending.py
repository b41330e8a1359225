"""The code of docs/extending.md does what the page says."""

import re
import sys
from pathlib import Path

import pytest

import isplit

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


def blocks(language: str) -> list[str]:
    """Return the page's code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory in which the page's files lie and can be imported."""
    for block in blocks("python"):
        name = re.match(r"# (\w+\.py)\n", block)
        if name:
            (tmp_path / name[1]).write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def test_own_methods_from_python(folder, tiny_model_file, tiny_weights, tiny_data, capsys):
    """Both methods rank the cuts, and the study says by which method it was ranked."""
    (code,) = [block for block in blocks("python") if "IntegratedGradients(steps=2)" in block]
    model = isplit.load_model(f"{tiny_model_file}:build", weights=str(tiny_weights))
    names = {"MODEL": model, "DATA": str(tiny_data)}
    exec(code, names)  # the page's own code
    study = names["study"]

    assert capsys.readouterr().out.startswith("integrated gradients ['")
    assert all(point.cui is not None and point.cui > 0 for point in study.curve.points)
    assert "integrated gradients" == study.ranking.method
    ablated = isplit.analyze(
        model, tiny_data, out="ablated", settings=isplit.AnalyzeSettings(images=12, method=names["Ablation"]())
    )
    assert [point.cui for point in ablated.curve.points] != [point.cui for point in study.curve.points]


def test_own_method_from_the_command_line(folder, isplit, tiny_model_file, tiny_weights, tiny_data):
    """`--method FILE:NAME` takes a class of the file, and a name that is not there is refused."""
    arguments = ["analyze", f"{tiny_model_file}:build", tiny_data, "--weights", tiny_weights, "--images", "12"]
    done = isplit(*arguments, "--method", "./my_methods.py:Ablation", "-o", "by-ablation")
    assert 0 == done.code, done.err
    refused = isplit(*arguments, "--method", "./my_methods.py:Nothing", "-o", "other")
    assert 2 == refused.code
    assert "has no function 'Nothing'" in refused.err
