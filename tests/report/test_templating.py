"""isplit.report.templating: names and commands break where a reader expects it, and everything is escaped."""

import pytest

from isplit.report.templating import command, prose, specification


def test_options_do_not_break():
    """A browser would break a line between the two hyphens of an option and its name."""
    expected = 'isplit fit study <span class="option">--cut</span> layer1-2 <span class="option">--max-loss</span> 3'
    assert expected == command("isplit fit study --cut layer1-2 --max-loss 3")
    assert 'Train it: <code>isplit fit &lt;s&gt; <span class="option">--cut</span> a</code>.' == prose(
        "Train it: `isplit fit <s> --cut a`."
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("isplit.design.demo:build", "isplit.<wbr>design.<wbr>demo:<wbr>build"),
        ("a/b_c", "a/<wbr>b_<wbr>c"),
        ("<b>.", "&lt;b&gt;."),
    ],
)
def test_specifications_break_after_punctuation(name, expected):
    """The title of the page breaks between the parts of a name, never within a word."""
    assert expected == specification(name)
