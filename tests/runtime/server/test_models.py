"""The models of a bundle: whose payloads are decoded in the thread that receives them."""

import pytest

from isplit.runtime.server import models
from isplit.runtime.server.models import host


@pytest.mark.parametrize(
    ("coder", "symbols", "quick"), [("compiled", 2**12, True), ("compiled", 1, False), ("numpy", 2**12, False)]
)
def test_short_payloads_of_the_compiled_coder_are_quick(tiny, monkeypatch, coder, symbols, quick):
    """Payloads of rANS are decoded at once where it is compiled and they are short; in numpy it takes far longer."""
    monkeypatch.setattr(models, "rans_coder", lambda: coder)
    monkeypatch.setattr(models, "QUICK_RANS_SYMBOLS", symbols)
    hosted = host(tiny.bundle, make_engine=lambda *_, **__: None, make_batcher=lambda _: None)
    rans = {cut.name for cut in tiny.bundle.record.cuts if tiny.bundle.codec(cut.name).coder == "rans"}

    assert rans
    assert dict.fromkeys(rans, quick) == {name: hosted[f"tiny.{name}"].quick for name in rans}
