"""What is imported, in a fresh interpreter: seconds of a user's time are in modules that nobody needs there."""

import subprocess
import sys

SLOW = (
    "triton torch._dynamo torch._inductor scipy sklearn pandas matplotlib torchvision timm transformers datasets onnx "
    "onnxruntime onnxscript onnx2torch ray captum tritonclient grpc prometheus_client"
).split()
"""Modules that take tenths of a second and more, and that torch itself does not import."""


def modules_after(code):
    """Run code in a fresh interpreter and return which of the slow modules it loaded, and all names."""
    show = "\nimport sys\nprint('LOADED', *sys.modules)"
    command = [sys.executable, "-c", code + show]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    names = set(done.stdout.rpartition("LOADED")[2].split())
    assert "sys" in names
    return names


def test_analyze_needs_torch_alone():
    """`isplit.analyze` brings no other large library, nothing that trains, no templates and no progress bars."""
    names = modules_after("import isplit; isplit.analyze")
    assert "torch" in names
    assert [] == [slow for slow in SLOW if slow in names]
    assert set() == {"isplit.design.fit", "isplit.design.verify", "isplit.report", "jinja2", "rich"} & names


def test_the_other_verbs_need_torch_alone():
    """Where the work of the other verbs is done, nothing slow is imported either."""
    verbs = ("predict", "fit", "verify", "fit_on_ray")
    names = modules_after("; ".join(f"import isplit.design.{verb}" for verb in verbs))
    assert [] == [slow for slow in SLOW if slow in names]


def test_a_model_of_ones_own_needs_no_torchvision(tmp_path):
    """The package torchvision is imported for its own models and data alone."""
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))\n", "utf-8"
    )
    load = f"import isplit; isplit.load_model({f'{tmp_path}/net.py:build'!r}, image_size=2)"
    assert "torchvision" not in modules_after(load)


def test_help_loads_the_table_of_verbs_alone():
    """`isplit --help` imports no verb, no records and no large library, so that it answers at once."""
    code = "from isplit.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass"
    names = modules_after("import sys\nsys.argv = ['isplit', '--help']\n" + code)
    unwanted = [*SLOW, "torch", "numpy", "pydantic", "rich", "isplit.records", "isplit.api", "isplit.cli.analyze"]
    assert [] == [name for name in unwanted if name in names]
