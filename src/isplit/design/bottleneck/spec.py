"""Bottleneck designs by name, the user's own among them, and bottlenecks from the specs in records."""

from dataclasses import dataclass

from isplit.design.bottleneck.base import Bottleneck, Place
from isplit.design.bottleneck.identity import IdentityBottleneck
from isplit.design.bottleneck.linear import LinearBottleneck
from isplit.design.bottleneck.undercomplete import UndercompleteBottleneck
from isplit.design.inputs.user_code import import_factory
from isplit.errors import InputError
from isplit.records import BottleneckSpec, Budget

_BUILT_IN: dict[str, type[Bottleneck]] = {
    "linear": LinearBottleneck,
    "undercomplete": UndercompleteBottleneck,
    "identity": IdentityBottleneck,
}
# Plain PCA is the linear bottleneck with other values; `predict` builds it for comparison, and nothing trains it.
_RECORDED = {**_BUILT_IN, "pca": LinearBottleneck}


@dataclass(frozen=True)
class BottleneckDesign:
    """A design that a split can be built with.

    Attributes:
        name: A name for records, tables and folders: that of a built-in design, or of the user's own class.
        bottleneck: The class.
        source: Where the user's own class comes from, as `./file.py:name` or `package.module:name`; None for built-in
            designs.

    """

    name: str
    bottleneck: type[Bottleneck]
    source: str | None = None

    def spec(self, bottleneck: Bottleneck, place: Place) -> BottleneckSpec:
        """Describe a bottleneck of this design so that `build_bottleneck` can build it again."""
        fields = {"shape": place.shape, "channel_axis": place.channel_axis} | dict(bottleneck.structure())
        return BottleneckSpec(design=self.name, source=self.source, **fields)


def read_design(design: str | type[Bottleneck]) -> BottleneckDesign:
    """Return the design of that name, or the user's own: a class, or where one is.

    Args:
        design: "linear", "undercomplete" or "identity"; a subclass of `Bottleneck`; or `./file.py:name` or
            `package.module:name`, whose code is run.

    Raises:
        InputError: there is no such design, or the class lacks a part of the contract.

    """
    if isinstance(design, str) and ":" not in design:
        if design not in _BUILT_IN:
            msg = f"design is {design!r}; choose one of {', '.join(_BUILT_IN)}, or name your own as ./file.py:name"
            raise InputError(msg)
        return BottleneckDesign(design, _BUILT_IN[design])
    known = {bottleneck: name for name, bottleneck in _BUILT_IN.items()}
    if isinstance(design, type) and design in known:
        return BottleneckDesign(known[design], design)
    bottleneck = import_factory(design, error=InputError) if isinstance(design, str) else design
    source = design if isinstance(design, str) else None
    return _own_design(bottleneck, source)


def _own_design(bottleneck: object, source: str | None) -> BottleneckDesign:
    name = source or getattr(bottleneck, "__qualname__", repr(bottleneck))
    if not isinstance(bottleneck, type) or not issubclass(bottleneck, Bottleneck):
        msg = (
            f"design {name} is no bottleneck: give a class that inherits from isplit.design.bottleneck.base.Bottleneck "
            "and has encode, decode and start (docs/extending.md)"
        )
        raise InputError(msg)
    if bottleneck.__name__ in _RECORDED:
        msg = f"design {name} has the name of a built-in design, {bottleneck.__name__}: call the class something else"
        raise InputError(msg)
    defined = {name for base in bottleneck.__mro__[: bottleneck.__mro__.index(Bottleneck)] for name in vars(base)}
    missing = [part for part in ("encode", "decode", "start") if part not in defined]
    if missing:
        msg = f"design {name} lacks {', '.join(missing)}: see docs/extending.md"
        raise InputError(msg)
    return BottleneckDesign(
        bottleneck.__name__, bottleneck, source or f"{bottleneck.__module__}:{bottleneck.__qualname__}"
    )


def build_bottleneck(
    spec: BottleneckSpec, budget: Budget, *, design: str | type[Bottleneck] | None = None
) -> Bottleneck:
    """Return a bottleneck of that spec with weights that mean nothing yet.

    Args:
        spec: From a record.
        budget: The budget of that record.
        design: The user's own design, which a spec of one needs: a record alone never has code imported.

    Raises:
        InputError: the spec is of the user's own design and `design` is not that, or it is of an unknown one.

    """
    if spec.source is None:
        if spec.design not in _RECORDED:
            msg = f"there is no design {spec.design!r}; known are {', '.join(_RECORDED)}"
            raise InputError(msg)
        return _RECORDED[spec.design].rebuild(spec, budget)
    if design is None:
        msg = (
            f"its bottleneck is of a design of your own, {spec.design} from {spec.source}, and a record alone never "
            f"has code run: pass `design={spec.source}`"
        )
        raise InputError(msg)
    given = read_design(design)
    if given.name != spec.design:
        msg = f"its bottleneck is of the design {spec.design} from {spec.source}, not of {given.name}: pass that one"
        raise InputError(msg)
    return given.bottleneck.rebuild(spec, budget)
