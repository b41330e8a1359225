"""The files that write_report leaves, without a browser."""

import base64
import hashlib
import json
import re
import subprocess
import sys
import zlib
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isplit.errors import StudyError
from isplit.records import CurveRecord
from isplit.report import curve_svg, report_html, write_report
from tests.report.invented_study import Records


@pytest.fixture(scope="session")
def html(study_directory: Path) -> str:
    """Read the page as text."""
    return (study_directory / "report.html").read_text(encoding="utf-8")


class _Resources(HTMLParser):
    """Collect every attribute that makes a browser fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]


def test_report_writes_both_files(study_directory: Path):
    """The paths come back in order, and nothing temporary is left."""
    expected = (study_directory / "report.html", study_directory / "curve.svg")
    assert expected == write_report(study_directory)
    assert [path.name for path in study_directory.iterdir() if path.name.startswith(".")] == []


def test_missing_curve_is_a_study_error(study_directory: Path, tmp_path: Path):
    """An unfinished study says which record is missing, and nothing is written."""
    for name in ("study.json", "graph.json"):
        (tmp_path / name).write_bytes((study_directory / name).read_bytes())
    with pytest.raises(StudyError, match=r"curve\.json is missing"):
        write_report(tmp_path)
    expected = ["graph.json", "study.json"]
    assert expected == sorted(path.name for path in tmp_path.iterdir())


def test_records_of_two_studies_are_a_study_error(study_directory: Path, tmp_path: Path, curve: CurveRecord):
    """A curve over cuts that the graph does not have is refused in words."""
    for name in ("study.json", "graph.json", "candidates.json"):
        (tmp_path / name).write_bytes((study_directory / name).read_bytes())
    stranger = curve.points[0].model_copy(update={"cut": "layer9"})
    curve.model_copy(update={"points": (stranger,)}).save(tmp_path)
    with pytest.raises(StudyError, match=r"graph\.json has no cut 'layer9'"):
        write_report(tmp_path)


@pytest.mark.parametrize("points", [0, 1])
def test_curve_without_a_line_is_drawn_all_the_same(records: Records, points: int):
    """A model of linear layers only has no cut with positions: both files are made, and the table is whole."""
    study, graph, curve, candidates = records
    short = curve.model_copy(update={"points": curve.points[:points], "subsets": ()})
    none = candidates.model_copy(update={"candidates": (), "subsets": ()})
    assert "classifier.1" in report_html(study, graph, short, none)
    assert curve_svg(study, graph, short, none).startswith(b"<?xml")


def test_report_needs_no_torch_and_no_plotting_library_to_import():
    """Importing the package loads neither torch nor a plotting library."""
    code = "import sys, isplit.report; print(sorted({'torch', 'plotly', 'matplotlib'} & set(sys.modules)))"
    expected = "[]\n"
    assert expected == subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_page_loads_nothing_from_a_network(html: str):
    """Every src and href is a data URI or a mark of the page, styles fetch nothing, and the policy forbids the rest."""
    parser = _Resources()
    parser.feed(html)
    assert [value for value in parser.found if not value.startswith(("data:", "#mark-"))] == []
    assert not re.search(r"@import|url\((?!data:)|https?://", html)
    assert "default-src 'none'" in unescape(html)


def test_text_from_records_is_escaped(html: str):
    """A class title that looks like HTML is shown as text."""
    assert "&lt;b&gt;&amp;cat</option>" in html
    assert "<b>&cat" not in html


def test_script_data_cannot_end_its_element(records: Records):
    """A title with </script> neither ends an element nor changes the data."""
    study, graph, curve, candidates = records
    hostile = "</script><script>alert(1)</script><!--"
    data = study.data.model_copy(update={"class_titles": (hostile, *study.data.class_titles[1:])})
    page = report_html(study.model_copy(update={"data": data}), graph, curve, candidates)
    assert "<script>alert" not in page
    assert hostile in [series["label"] for series in unpacked(page)["curves"]]


def unpacked(page: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/octet-stream" id="curves">(.*?)</script>', page)
    assert match is not None
    return json.loads(zlib.decompress(base64.b64decode(match[1])))


def test_policy_allows_the_scripts_of_the_page_and_no_other(html: str):
    """Each script that runs has its hash in the policy, and nothing else may run."""
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', html)
    assert policy is not None
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = re.search(r"script-src (.*?);", unescape(policy[1]))
    assert allowed is not None
    assert [f"'sha256-{value}'" for value in hashes] == allowed[1].split()
    expected = 4
    assert expected == len(scripts)


def test_page_is_small(study_directory: Path):
    """A page weighs a tenth of what it may, two megabytes, of which the records are most."""
    assert (study_directory / "report.html").stat().st_size < 200_000


def test_page_of_many_classes_and_cuts_stays_below_two_megabytes(records: Records):
    """A thousand classes at two hundred cuts with figures of their own, and a table of all cuts."""
    study, graph, curve, candidates = records
    generator = np.random.default_rng(0)
    names = [f"class{number:04}" for number in range(1000)]
    cuts = tuple(
        graph.cuts[0].model_copy(update={"name": f"features.denseblock{number}.relu", "depth": number})
        for number in range(200)
    )
    points = tuple(
        curve.points[0].model_copy(
            update={
                "cut": cut.name,
                "per_class": dict(zip(names, (10 ** generator.uniform(-6, -3, 1000)).tolist(), strict=True)),
                "per_class_stderr": dict(zip(names, (10 ** generator.uniform(-8, -6, 1000)).tolist(), strict=True)),
            }
        )
        for cut in cuts
    )
    data = study.data.model_copy(
        update={"classes": tuple(names), "class_titles": tuple(names), "class_outputs": tuple(range(1000))}
    )
    page = report_html(
        study.model_copy(update={"data": data}),
        graph.model_copy(update={"cuts": cuts}),
        curve.model_copy(update={"points": points, "subsets": ()}),
        candidates.model_copy(update={"candidates": (), "subsets": ()}),
    )
    assert len(page.encode()) < 2_000_000


def test_answer_comes_first_with_its_numbers(html: str):
    """The first choice, its cost, the next in line and the base accuracy stand before every figure."""
    answer = html[html.index('id="answer"') : html.index('id="figure-curve"')]
    text = " ".join(re.sub(r"<[^>]+>", "", answer).replace("\u00a0", " ").replace("&nbsp;", " ").split())
    assert "Split after features.13 first." in text
    assert "It is a local maximum of the importance and local minimum of the size." in text
    assert "Before any bottleneck, 32 KiB per image cross there, which is 2.67 × the fp32 input" in text
    assert "and the device computes 41.7 % of the MACs. The next candidates are features.4 and features.28." in text
    assert "answers 83.0 % of 100 images correctly (95 % interval 74.5–89.1 %; chance 25.0 %)" in text
    assert "features.28 is not settled: more images may move it." in text
    assert "The subsets disagree" in text
    assert html.index("Only 100 images measure the base accuracy") < html.index('id="answer"')


def test_report_without_candidates_says_so(records: Records):
    """An empty ranking is stated in words and draws no cards."""
    study, graph, curve, candidates = records
    none = candidates.model_copy(update={"candidates": (), "note": "The curve has no interior maximum."})
    page = report_html(study, graph, curve, none)
    assert "No cut stands out" in page
    assert "The curve has no interior maximum." in page
    assert 'class="cards"' not in page


def test_report_without_overlays_has_no_third_figure(records: Records):
    """The section is left out, not left empty."""
    assert 'id="overlays"' not in report_html(*records)


def test_provenance_names_what_is_needed_to_repeat_the_study(html: str):
    """Hashes, seed, parts, versions, precision, target and the reason to stop are on the page."""
    shown = html[html.index('class="provenance"') :]
    missing = [
        text
        for text in (
            "a" * 64,
            "b" * 64,
            "c" * 64,
            "fit 400, select 100, test 100",
            "torch 2.14.0",
            "correct class, fp32",
        )
        if text not in shown
    ]
    assert missing == []
    assert "all 400 images were taken" in shown
    assert "<dt>Seed</dt><dd>7</dd>" in shown
