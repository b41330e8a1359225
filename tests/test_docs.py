"""The pages of docs/: each can be reached from the navigation, and their links lead somewhere."""

import importlib.util
import re
from pathlib import Path

import pytest

import isplit

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
TREES = ("src", "docs", "tests", "benchmarks", "experiments")


def without_code(text):
    """Return Markdown without its fenced blocks, in which brackets are no links and # is no heading."""
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)


def links(path):
    """Return the targets of a page's links that lead to no other site."""
    text = re.sub(r"`[^`\n]*`", "", without_code(path.read_text("utf-8")))
    targets = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(path):
    """Return the anchors that Python-Markdown gives to the headings of a page."""
    seen = set()
    for heading in re.findall(r"^#+ (.+?)\s*$", without_code(path.read_text("utf-8")), re.MULTILINE):
        slug = re.sub(r"[^\w\s-]", "", heading.encode("ascii", "ignore").decode()).strip().lower()
        seen.add(re.sub(r"[-\s]+", "-", slug))
    return seen


def hooks():
    """Import docs/hooks.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_navigation():
    """Every page is in the navigation once, and the navigation names no other page."""
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    expected = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES]
    assert expected == sorted(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links(path):
    """Every relative link leads to a file, and to a heading of that file where it names one."""
    broken = []
    for link in links(path):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert [] == broken


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pages_link_inside_the_site(path):
    """A page of the site links to no file outside docs/, which the site does not contain."""
    targets = [(path.parent / link.partition("#")[0]).resolve() for link in links(path)]
    assert [] == [target for target in targets if not target.is_relative_to(ROOT / "docs")]


@pytest.mark.parametrize("path", TEXTS[:-1], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_are_named(path):
    """Scripts and modules that a page names by their path exist; capitals stand for what the reader fills in."""
    names = re.findall(rf"(?:{'|'.join(TREES)})/[\w/.-]*\w\.(?:py|json|jsonl|md|toml|sh)\b", path.read_text("utf-8"))
    assert [] == [name for name in names if not (ROOT / name).exists() and not re.search("[A-Z]{3}", name)]


def test_links_that_are_broken(tmp_path):
    """A link to a missing file or heading is noticed; one to another site, or inside code, is none of ours."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A title, with `code`\n\n[a](gone.md) [b](#a-title-with-code) [c](https://example.org) `[d](e.md)`\n"
        "```python\n# No heading\nvalues[0](f.md)\n```\n",
        "utf-8",
    )
    assert ["gone.md", "#a-title-with-code"] == links(page)
    assert {"a-title-with-code"} == anchors(page)


def test_every_command_is_on_the_page_of_commands():
    """The page of the commands has a section for each verb, and each option and argument has a meaning."""
    page = hooks().on_page_markdown("before\n<!-- commands -->\nafter")
    verbs = re.findall(r"^## `isplit (\S+)`$", page, re.MULTILINE)
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    assert {"analyze", "predict", "plan", "fit", "export", "serve", "run"} <= set(verbs)
    assert [] == [cells[0] for cells in rows if not cells[1].strip()]


def test_every_exported_name_is_on_the_page_of_the_api():
    """The page of the API describes each name of the package; exceptions are there as a module."""
    page = (ROOT / "docs" / "reference" / "api.md").read_text("utf-8")
    described = set(re.findall(r"^(?:::: .*\.| +- )(\w+)$", page, re.MULTILINE))
    exceptions = {name for name in isplit.__all__ if name.endswith("Error")}
    assert set() == set(isplit.__all__) - described - exceptions - {"__version__"}
    assert "errors" in described
