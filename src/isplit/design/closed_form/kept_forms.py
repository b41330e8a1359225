"""Solutions and closed forms as arrays, to be kept while `predict` is not finished."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.codec.codec import Codec
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.bottleneck.spec import build_bottleneck
from isplit.design.closed_form.moments import CutVectors, SolvedCut
from isplit.design.closed_form.solve import Reducer, Solution
from isplit.design.kept_work import array_text, text_array
from isplit.design.splits import BuiltSplit
from isplit.records import BottleneckSpec, Budget, Cut

Arrays = Mapping[str, NDArray[Any]]

_SOLUTION = ("mean", "scale", "encoder", "decoder", "eigenvalues")
_REDUCER = ("mean", "scale", "encoder", "decoder")


def split_arrays(built: BuiltSplit, spec: BottleneckSpec) -> dict[str, NDArray[Any]]:
    """Return a closed-form split as arrays."""
    codec = {
        name: text_array(str(part)) if part.dtype.kind == "U" else part
        for name, part in built.codec.to_arrays().items()
    }
    return {
        "spec": text_array(spec.model_dump_json()),
        **{f"codec.{name}": part for name, part in codec.items()},
        **{f"weights.{name}": value.numpy() for name, value in built.bottleneck.state_dict().items()},
    }


def split_from(arrays: Arrays, cut: Cut, budget: Budget) -> tuple[BuiltSplit, BottleneckSpec]:
    """Undo `split_arrays`."""
    spec = BottleneckSpec.model_validate_json(array_text(arrays["spec"]))
    codec = _below("codec.", arrays)
    codec["codec"] = np.array(array_text(codec["codec"]))
    bottleneck = build_bottleneck(spec, budget)
    weights = {name: torch.from_numpy(value) for name, value in _below("weights.", arrays).items()}
    bottleneck.load_state_dict(weights)
    return BuiltSplit(cut, bottleneck.requires_grad_(False).eval(), Codec.from_arrays(codec)), spec


def solved_arrays(
    budgets: Sequence[Budget], trials: Sequence[tuple[Budget, CutVectors]], solved: Mapping[CutVectors, SolvedCut]
) -> dict[str, NDArray[Any]]:
    """Return the vectors that may suit each budget of a cut, and their solutions, as arrays."""
    several = list(dict.fromkeys(vectors for _, vectors in trials))
    places = [[budgets.index(budget), several.index(vectors)] for budget, vectors in trials]
    arrays: dict[str, NDArray[Any]] = {"trials": np.array(places).reshape(-1, 2)}
    for number, vectors in enumerate(several):
        of_vectors, reducer = solved[vectors], vectors.reducer
        arrays[f"{number}.patch"] = np.array(vectors.layouts[-1].patch)
        arrays[f"{number}.samples"] = np.array(of_vectors.samples_per_dimension)
        if reducer is not None:
            arrays |= {f"{number}.reducer.{name}": getattr(reducer, name).numpy() for name in _REDUCER}
            arrays[f"{number}.reducer.left_out"] = np.array(float(reducer.left_out))
        for place, solution in enumerate(of_vectors.solutions):
            arrays |= {f"{number}.{place}.{name}": getattr(solution, name).numpy() for name in _SOLUTION}
            if solution.energy is not None:
                arrays[f"{number}.{place}.energy"] = np.array(solution.energy)
    return arrays


def solved_from(
    arrays: Arrays, cut: Cut, budgets: Sequence[Budget], *, image_size: tuple[int, int]
) -> tuple[list[tuple[Budget, CutVectors]], dict[CutVectors, SolvedCut]]:
    """Undo `solved_arrays`."""
    trials = arrays["trials"].tolist()
    count = 1 + max((place for _, place in trials), default=-1)
    several = [_vectors(_below(f"{number}.", arrays), cut, image_size) for number in range(count)]
    solved: dict[CutVectors, SolvedCut] = {}
    for number, vectors in enumerate(several):
        parts = [_below(f"{number}.{place}.", arrays) for place in range(len(vectors.layouts))]
        solutions = tuple(
            Solution(
                layout,
                **_tensors(_SOLUTION, part),
                reducer=vectors.reducer,
                energy=float(part["energy"]) if "energy" in part else None,
            )
            for layout, part in zip(vectors.layouts, parts, strict=True)
        )
        solved[vectors] = SolvedCut(vectors, solutions, float(arrays[f"{number}.samples"]))
    return [(budgets[budget], several[place]) for budget, place in trials], solved


def _vectors(arrays: Arrays, cut: Cut, image_size: tuple[int, int]) -> CutVectors:
    patch, reducer = int(arrays["patch"]), None
    of_reducer = _below("reducer.", arrays)
    if of_reducer:
        left_out = float(of_reducer["left_out"])
        reducer = Reducer(PatchLayout.of(cut, patch), **_tensors(_REDUCER, of_reducer), left_out=left_out)
    return CutVectors.of(cut, image_size=image_size, patch=patch, reducer=reducer)


def _tensors(names: Sequence[str], arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(arrays[name]) for name in names}


def _below(prefix: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Return the arrays whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
