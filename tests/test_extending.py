"""The code of docs/extending.md does what the page says."""

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import isplit
from isplit.design.onnx.compare import load_pixels
from isplit.errors import StudyError
from isplit.records import Budget
from isplit.runtime.bundle import Bundle
from isplit.runtime.session import Session
from tests.design.exporting import tiny_study as tiny_study

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


def exported_answers(bundle, images):
    """Return what the runtime answers with a bundle's head, codec and tail, from real payloads."""
    opened = Bundle.open(bundle)
    (cut,) = [placement.name for placement in opened.record.cuts]
    head, tail = Session(opened.head_path(cut)), Session(opened.tail_path(cut))
    codec = opened.codec(cut)
    payloads = [codec.encode_symbols(latent) for latent in head.run(images)]
    return tail.run(np.stack([codec.decode_symbols(payload) for payload in payloads])), payloads


def test_own_design_from_python(folder, tiny_study, capsys):
    """The page's own bottleneck is trained, saved with where it comes from, exported and run by the runtime."""
    study = replace(tiny_study, directory=Path(shutil.copytree(tiny_study.directory, folder / "study")))
    (code,) = [block for block in blocks("python") if "design=Narrow" in block]
    names = {"STUDY": study, "CUT": "pool1"}
    exec(code, names)  # the page's own code

    record = names["record"]
    assert "Narrow from my_design:Narrow" in capsys.readouterr().out
    assert 45 < record.measurement.payload_bytes.mean < 95
    assert record.measurement.encoder_macs == 8 * 8 * 8  # one latent channel from eight, at 64 positions
    logits, payloads = exported_answers(folder / "narrow", load_pixels(study.view(), "test", limit=8))
    assert (8, 3) == logits.shape
    assert all(len(payload) < 120 for payload in payloads)
    with pytest.raises(StudyError, match=r"never has code run: pass `design="):
        isplit.export(study, "pool1", out="again", split_filter=isplit.SplitFilter(budget=Budget(payload_bytes=90)))


def test_own_design_from_the_command_line(folder, isplit, tiny_study):
    """`--design FILE:NAME` trains a class of the file and exports it; without it the file is not run again."""
    study = shutil.copytree(tiny_study.directory, folder / "study")
    arguments = ["--allow-code", study, "--cut", "pool1", "--bytes", "90", "--quiet"]
    done = isplit("fit", *arguments, "--design", "./my_design.py:Narrow", "--epochs", "1", "--coder", "zstd")
    assert 0 == done.code, done.err
    done = isplit("export", *arguments, "--design", "./my_design.py:Narrow", "-o", "narrow")
    assert 0 == done.code, done.err
    assert "zstd" == Bundle.open(folder / "narrow").codec("pool1").coder
    refused = isplit("export", *arguments, "-o", "other")
    assert 2 == refused.code
    assert "--design ./my_design.py:Narrow" in refused.err
