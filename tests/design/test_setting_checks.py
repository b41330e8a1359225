"""isplit.design.setting_checks: values in the range pass, its ends included; others are refused with the range."""

import pytest

from isplit.design.setting_checks import check_choice, check_device, check_range
from isplit.errors import InputError


def test_choice():
    """One of the known values passes; another is refused with all of them."""
    check_choice("coder", "rans", ("rans", "zstd"))
    with pytest.raises(InputError, match="coder is 'gzip'; choose one of rans, zstd"):
        check_choice("coder", "gzip", ("rans", "zstd"))


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12", "mps"])
def test_device(device):
    """Names of devices pass, whether or not this machine has them."""
    check_device(device)


@pytest.mark.parametrize("device", ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:1234", "cuda:0 ", "mps:0"])
def test_no_device(device):
    """Any other text is refused with what can be given."""
    with pytest.raises(InputError, match="choose one of auto, cpu, cuda, cuda:N"):
        check_device(device)


@pytest.mark.parametrize("value", [None, 1, 1.0, 2, 3])
def test_inside_the_range(value):
    """Both ends belong to the range, and None is no number."""
    check_range("epochs", value, 1, 3)


@pytest.mark.parametrize("value", [0.999, 3.001, float("nan"), float("inf")])
def test_outside_the_range(value):
    """Numbers beyond an end, and what is no number, are refused."""
    with pytest.raises(InputError, match="give at least 1, at most 3"):
        check_range("epochs", value, 1, 3)


def test_range_without_an_upper_end():
    """The message names no upper end where there is none."""
    check_range("epochs", 1e300, 1)
    with pytest.raises(InputError, match=r"epochs is 0; give at least 1$"):
        check_range("epochs", 0, 1)
