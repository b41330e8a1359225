"""Designs by name, designs of the user's own, and bottlenecks rebuilt from what a record says."""

import pytest
import torch

from isplit.design.bottleneck.base import Bottleneck, Place
from isplit.design.bottleneck.identity import IdentityBottleneck
from isplit.design.bottleneck.sides import encoder_side, measure_work, start_design
from isplit.design.bottleneck.spec import build_bottleneck, read_design
from isplit.errors import InputError
from isplit.records import BottleneckSpec, Budget

BUDGET = Budget(payload_bytes=34)


class Own(Bottleneck):
    """Two numbers for each image, through a linear layer on each side; a BatchNorm with buffers in front."""

    def __init__(self, width: int, latent: int) -> None:
        super().__init__((latent,))
        self.norm = torch.nn.BatchNorm1d(width)
        self.there = torch.nn.Linear(width, latent, bias=False)
        self.back = torch.nn.Linear(latent, width, bias=False)

    @classmethod
    def start(cls, place: Place) -> "Own":
        return cls(place.shape[0], place.elements // 16)

    def encode(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.there(self.norm(tensor))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.back(latents)


class Wrong(Own):
    """Its latent is not as long as it says."""

    def encode(self, tensor: torch.Tensor) -> torch.Tensor:
        return super().encode(tensor)[:, :1]


class Failing(Own):
    """It cannot start."""

    @classmethod
    def start(cls, place: Place) -> "Own":
        raise RuntimeError("out of ideas")


class Halfway(Bottleneck):
    """It cannot decode."""

    start = Own.start
    encode = Own.encode


def place_of(shape: tuple[int, ...]) -> Place:
    return Place(shape=shape, channel_axis=-1, budget=BUDGET, mean=torch.zeros(shape[-1]), scale=torch.ones(shape[-1]))


def test_own_design_is_described_and_rebuilt() -> None:
    """The spec has the class's name and where it is; with the class again, the same architecture is built."""
    design = read_design(Own)
    bottleneck = start_design(design, place_of((6,)))
    spec = design.spec(bottleneck, place_of((6,)))

    assert ("Own", f"{__name__}:Own", (6,)) == (spec.design, spec.source, spec.shape)
    again = build_bottleneck(spec, BUDGET, design=Own)
    again.load_state_dict(bottleneck.state_dict())
    tensor = torch.randn(3, 6)
    assert torch.equal(bottleneck.eval()(tensor), again.eval()(tensor))


def test_work_and_sides_of_an_own_design() -> None:
    """By hand: 6 numbers times 2 latents on each side; norm (weight, bias, mean, variance) and 12 weights in front."""
    bottleneck = start_design(read_design(Own), place_of((6,)))
    work, side = measure_work(bottleneck, (6,)), encoder_side(bottleneck, (6,))

    assert (12, 12) == (work.encoder_macs, work.decoder_macs)
    assert (4 * 6 + 12, 12) == (work.encoder_parameters, work.decoder_parameters)
    assert ({"norm.weight", "norm.bias", "there.weight"}, {"norm", "there"}) == (side.parameters, side.modules)


def test_a_class_of_the_package_has_its_name() -> None:
    """A built-in design may be given as a class or by its name."""
    assert read_design("identity") == read_design(IdentityBottleneck)


def test_a_design_from_a_file(tmp_path) -> None:
    """`FILE:NAME` runs the file, and the record says so in these words."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from isplit.design.bottleneck.identity import IdentityBottleneck\n\n\n"
        "class Mine(IdentityBottleneck):\n"
        "    @classmethod\n    def start(cls, place):\n        return cls(place.layout)\n\n"
        "    def encode(self, tensor):\n        return super().encode(tensor)\n\n"
        "    def decode(self, latents):\n        return super().decode(latents)\n"
    )
    design = read_design(f"{file}:Mine")

    assert ("Mine", f"{file}:Mine") == (design.name, design.source)


@pytest.mark.parametrize(
    ("design", "says"),
    [
        ("magic", "choose one of linear, undercomplete, identity, or name your own"),
        ("./nowhere.py:Own", "cannot be imported"),
        (torch.nn.Linear, "design Linear is no bottleneck: give a class that inherits"),
        (print, "design print is no bottleneck"),
        (Halfway, "lacks decode"),
        (type("linear", (Own,), {}), "has the name of a built-in design"),
    ],
)
def test_what_is_no_design(design, says: str) -> None:
    """The message names what was given and what is missing."""
    with pytest.raises(InputError, match=says):
        read_design(design)


@pytest.mark.parametrize(
    ("design", "says"),
    [
        (Wrong, r"design Wrong: encode gives \(2, 1\) for two images, not \(2, 2\)"),
        (Failing, "design Failing fails on what crosses.*out of ideas"),
    ],
)
def test_a_design_that_breaks_the_contract(design, says: str) -> None:
    """Code that fails, or that gives other shapes than it says, is named before anything is trained."""
    with pytest.raises(InputError, match=says):
        start_design(read_design(design), place_of((6,)))


def test_a_record_alone_runs_no_code() -> None:
    """A spec of the user's own design needs the design again, and that one; an unknown name is said to be so."""
    spec = BottleneckSpec(design="Own", source="./never-run.py:Own", shape=(6,), channel_axis=-1)
    with pytest.raises(InputError, match=r"pass `design=./never-run.py:Own`"):
        build_bottleneck(spec, BUDGET)
    with pytest.raises(InputError, match=r"is of the design Own from ./never-run.py:Own, not of Wrong"):
        build_bottleneck(spec, BUDGET, design=Wrong)
    with pytest.raises(InputError, match="there is no design 'magic'"):
        build_bottleneck(BottleneckSpec(design="magic", shape=(6,), channel_axis=-1), BUDGET)
