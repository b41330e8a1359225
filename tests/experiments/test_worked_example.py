"""The worked example's page says what its script would write, and its table says what the commands printed."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "worked-example.md").read_text(encoding="utf-8")
SCRIPT = (ROOT / "experiments" / "worked_example.py").read_text(encoding="utf-8")
_PRINTED = r"^(features\S+) +([\d,]+) +[\d,]+ +[\d,]+ +\d+% +([\d.]+)%"


def test_the_prose_is_that_of_the_script():
    """Whoever changes the one has to change the other."""
    _, template, _ = re.split(r'return f"""|\n"""\n\n\ndef main', SCRIPT)
    paragraphs = [text.strip() for text in template.replace("\\\\", "\\").split("\n\n")]
    fixed = [text for text in paragraphs if "{" not in text]

    assert 10 <= len(fixed)
    assert [] == [text for text in fixed if text not in PAGE]


def test_the_table_repeats_what_was_printed():
    """Each accuracy of the table is the one that `isplit predict` printed for that cut and budget."""
    printed = {
        (cut, budget.replace(",", "")): float(accuracy)
        for cut, budget, accuracy in re.findall(_PRINTED, PAGE, re.MULTILINE)
    }
    budgets = re.findall(r"\| ([\d,]+) B", PAGE)
    table = {
        (cut, budget.replace(",", "")): float(value)
        for cut, cells in re.findall(r"^\| `(features\S+)` \|(.*)\|$", PAGE, re.MULTILINE)
        for budget, value in zip(budgets, re.findall(r"(\d+) %", cells), strict=True)
    }

    assert 42 == len(table)
    assert printed == table
