"""Keep a run on disk after each epoch: tensors in safetensors, the rest in JSON, and nothing pickled.

The order of the images and all random numbers of an epoch follow from the seed and the epoch's number. Learning rates
follow from the number of the step. So no state of a random generator or of a scheduler has to be kept.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import torch
from safetensors.torch import load, save
from torch import nn

from isplit.codec.quantise import Quantiser
from isplit.errors import StudyError
from isplit.records import Part, Record, TrainingEpoch, write_whole
from isplit.records.files import read_limited

_TENSORS = "checkpoint-{}.safetensors"
_LARGEST_CHECKPOINT_BYTES = 2**34  # VGG16, its moments and its best weights take 2.2 GB


class Scales(Part):
    """Hold the fields of a quantiser in a form that JSON can keep."""

    levels: int
    lowest: int
    steps: tuple[float, ...]
    offsets: tuple[float, ...]

    @classmethod
    def of(cls, quantiser: Quantiser) -> Self:
        """Return the fields of a quantiser."""
        return cls(levels=quantiser.levels, lowest=quantiser.lowest, steps=quantiser.steps, offsets=quantiser.offsets)

    def quantiser(self) -> Quantiser:
        """Make a quantiser of these fields."""
        return Quantiser(levels=self.levels, lowest=self.lowest, steps=self.steps, offsets=self.offsets)


class RunState(Record):
    """Describe how far a run has come; it is the content of checkpoint.json.

    `key` identifies the run. `done` counts the epochs of both stages. `best_epoch` is the epoch of the second stage
    whose weights are kept; `best_accuracy` and `best_loss` are its accuracy and its loss on the select part. They are
    None before the second stage.
    """

    schema_name: ClassVar[str] = "isplit.checkpoint/1"
    file_name: ClassVar[str] = "checkpoint.json"

    key: str
    done: int = 0
    seconds: float = 0.0
    price: float = 0.0
    quantiser: Scales | None = None
    best_epoch: int = 0
    best_accuracy: float | None = None
    best_loss: float | None = None
    best_quantiser: Scales | None = None
    curve: tuple[TrainingEpoch, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Read and write the checkpoint of one run in its split's directory.

    Args:
        directory: The split's directory. It is created when the first checkpoint is written.
        key: A hash of everything that the run depends on: settings, start, model and images.

    """

    directory: Path
    key: str

    def load(self) -> tuple[RunState, dict[str, torch.Tensor]] | None:
        """Return the state and the tensors of this run, or None.

        The result is None where there is no checkpoint, where it is damaged, or where it belongs to another run.
        """
        try:
            state = RunState.load(self.directory)
            if state.key != self.key:
                return None
            path = self.directory / _TENSORS.format(state.done)
            content = read_limited(path, limit_bytes=_LARGEST_CHECKPOINT_BYTES, kind="a checkpoint", ordinary=True)
            return state, load(content)
        except (StudyError, OSError):
            return None
        except Exception:  # noqa: BLE001 - safetensors has errors of its own, and a damaged file counts as none
            return None

    def save(self, state: RunState, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write state and tensors; the earlier checkpoint stays until the new one is complete.

        Raises:
            StudyError: the files cannot be written.

        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"cannot make {self.directory}: {error.strerror or error}"
            raise StudyError(msg) from error
        kept = _TENSORS.format(state.done)
        write_whole(self.directory / kept, save({name: value.contiguous() for name, value in tensors.items()}))
        state.save(self.directory)
        self._remove(but=kept)

    def clear(self) -> None:
        """Delete the checkpoint."""
        with contextlib.suppress(OSError):
            (self.directory / RunState.file_name).unlink()
        self._remove(but="")

    def _remove(self, *, but: str) -> None:
        for path in self.directory.glob(_TENSORS.format("*")):
            if path.name != but:
                with contextlib.suppress(OSError):
                    os.unlink(path)  # noqa: PTH108


def module_tensors(prefix: str, module: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of a module's tensors on the CPU."""
    return {f"{prefix}.{name}": value.detach().cpu().clone() for name, value in module.state_dict().items()}


def load_module(prefix: str, module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put tensors back into a module, each in the memory layout that it has there."""
    start = f"{prefix}."
    module.load_state_dict(
        {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
    )


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the state of an Adam optimiser: its tensors, named after the number of the parameter."""
    return {
        f"optimiser.{number}.{name}": value.detach().cpu().clone()
        for number, parameter in enumerate(_parameters(optimiser))
        for name, value in optimiser.state[parameter].items()
    }


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Restore the state that `optimiser_tensors` returned; without tensors, the optimiser starts afresh."""
    for number, parameter in enumerate(_parameters(optimiser)):
        start = f"optimiser.{number}."
        for name, value in tensors.items():
            if name.startswith(start):
                key = name.removeprefix(start)
                # As fused Adam makes them: on the parameter's device, and moments in the parameter's memory layout.
                optimiser.state[parameter][key] = (
                    torch.zeros_like(parameter).copy_(value)
                    if value.shape == parameter.shape and key != "step"
                    else value.to(parameter.device)
                )


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]
