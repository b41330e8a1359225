"""Train a learned bottleneck end to end by distillation, in two stages (used by learned_opponents.py).

The two stages are those of Entropic Student (Matsubara, Yang, Levorato and Mandt, WACV 2022). In the first one encoder,
decoder and prior learn to match the features at the cut and the whole model's answers behind the frozen tail, at a
price for each byte. In the second one encoder and prior stay as they are, and decoder and tail learn the task from
rounded latents.

Three things are done otherwise, all in favour of this opponent. The price is steered while the first stage trains, so
that one run ends near the budget; what is missing then is filled by a gain in front of the rounding, with the prior
fitted again. The prior's quantiles are found by bisection, since a loss of their own would need thousands of steps. The
epoch that answers best on the select part is kept.
"""

import math
from collections.abc import Callable, Generator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from learned_bottleneck import LearnedBottleneck, coded_bytes

from isplit.codec.frame import HEADER_BYTES
from isplit.design.devices import device_of
from isplit.design.graph import ModelGraph, split
from isplit.design.running import autocast, chosen_precision
from isplit.design.settings import FitSettings
from isplit.design.training.features import Example, Features
from isplit.design.training.losses import share_of_rate, task_losses
from isplit.records import Cut, Precision

_PRIOR_RATE = 1e-2
_PRIOR_STEPS = 100
_ASCENT = 0.1
_FILLED = 0.01  # the share by which the mean payload may be off the budget on the select part


class Price:
    """The Lagrange weight of the rate, which is steered so that the bytes fall to the budget while training goes on.

    What is allowed falls from the bytes of the first step to the budget, by the same factor in every step, and has
    reached it after half of the steps. The logarithm of the weight rises by a tenth of that of the excess.

    Args:
        budget_bytes: The mean payload.
        steps: The steps of the training.

    """

    def __init__(self, budget_bytes: int, *, steps: int) -> None:
        self.weight = 0.1
        self._budget_bytes, self._steps = budget_bytes, steps
        self._step, self._first = 0, 1.0

    def __call__(self, size: torch.Tensor) -> torch.Tensor:
        """Return the weighted rate of a step's mean bytes, and adapt the weight to them."""
        share = size / self._budget_bytes
        loss = self.weight * share
        if self._step == 0:
            self._first = float(share)
        allowed = self._first ** max(0.0, 1 - 2 * self._step / self._steps)
        self.weight *= (float(share) / allowed) ** _ASCENT
        self._step += 1
        return loss


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a learned bottleneck is trained.

    Args:
        epochs: Passes in all; the first half is the first stage.
        budget_bytes: The mean payload.
        batch_size: Images in one step.
        rate: Adam's learning rate of encoder and decoder.
        model_rate: That of the model's own layers after the cut.
        seed: Of initial values and of the images' order.

    """

    epochs: int
    budget_bytes: int
    batch_size: int = 32
    rate: float = 3e-3
    model_rate: float = FitSettings().model_rate
    seed: int = 0


class LearnedSplit:
    """A learned bottleneck at a cut, and the model's tail, which is copied and learns in the second stage."""

    def __init__(self, graph: ModelGraph, cut: Cut, bottleneck: LearnedBottleneck, recipe: Recipe) -> None:
        self._graph, self._cut, self._recipe = graph, cut, recipe
        self.bottleneck = bottleneck
        self.tail = deepcopy(split(graph, cut.name).tail).eval().requires_grad_(False)
        self._precision: Precision = chosen_precision("auto", device=device_of(graph.module))
        self.price = Price(recipe.budget_bytes, steps=1)

    def answer(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the logits that the server finds from latents."""
        return self._behind(self.bottleneck.decode(latents))

    def _behind(self, decoded: torch.Tensor) -> torch.Tensor:
        with autocast(self._precision):
            return self.tail(self._graph.lay_out(decoded, self._cut)).float()

    def train(self, features: Features, select: Features) -> list[float]:
        """Run both stages; return the accuracy on the select part after each epoch of the second one."""
        torch.manual_seed(self._recipe.seed)
        first = self._recipe.epochs // 2
        with features.batches(np.arange(self._recipe.batch_size), batch_size=self._recipe.batch_size) as examples:
            self.bottleneck.spread(next(iter(examples)).inputs)
        self._first_stage(features, epochs=first)
        self._fill_budget(self._latents(features), self._latents(select))
        return self._second_stage(features, select, epochs=self._recipe.epochs - first)

    def _first_stage(self, features: Features, *, epochs: int) -> None:
        """Let encoder, decoder and prior match features and answers, at a price that leads to the budget."""
        bottleneck, recipe, settings = self.bottleneck.train(), self._recipe, FitSettings(distillation=1.0)
        self.price = Price(recipe.budget_bytes, steps=epochs * -(-len(features) // recipe.batch_size))
        groups = [
            {"params": [*bottleneck.encoder.parameters(), *bottleneck.decoder.parameters()], "lr": recipe.rate},
            {"params": bottleneck.prior_parameters(), "lr": _PRIOR_RATE},
        ]

        def loss_of(example: Example) -> torch.Tensor:
            noisy, likelihoods = bottleneck.quantised(bottleneck.encode(example.inputs))
            decoded = bottleneck.decode(noisy)
            error = ((decoded - example.inputs) / bottleneck.scale).square().mean()
            losses = task_losses(self._behind(decoded), example.labels, example.teacher, settings)
            return error + losses["loss"] + self.price(coded_bytes(likelihoods))

        for _ in self._epochs(groups, features, loss_of, epochs=epochs):
            pass

    def _second_stage(self, features: Features, select: Features, *, epochs: int) -> list[float]:
        """Let decoder and tail learn the task from rounded latents, and keep the best epoch on the select part."""
        bottleneck, recipe, settings = self.bottleneck.eval(), self._recipe, FitSettings()
        bottleneck.encoder.requires_grad_(False)
        bottleneck.prior.requires_grad_(False)
        self.tail.requires_grad_(True)
        groups = [
            {"params": list(bottleneck.decoder.parameters()), "lr": recipe.rate},
            {"params": list(self.tail.parameters()), "lr": recipe.model_rate},
        ]

        def loss_of(example: Example) -> torch.Tensor:
            rounded = bottleneck.quantised(bottleneck.encode(example.inputs))[0]
            return task_losses(self.answer(rounded), example.labels, example.teacher, settings)["loss"]

        best, curve = (deepcopy(bottleneck.decoder), deepcopy(self.tail)), [self._accuracy(select)]
        for _ in self._epochs(groups, features, loss_of, epochs=epochs):
            curve.append(self._accuracy(select))
            if curve[-1] >= max(curve):
                best = deepcopy(bottleneck.decoder), deepcopy(self.tail)
        bottleneck.decoder, self.tail = best
        return curve

    def _epochs(
        self,
        groups: list[dict[str, object]],
        features: Features,
        loss_of: Callable[[Example], torch.Tensor],
        *,
        epochs: int,
    ) -> Generator[None]:
        """Train for some epochs and yield after each; rates rise and fall as `fit` has them."""
        optimiser = torch.optim.Adam(groups)
        highest, size = [group["lr"] for group in optimiser.param_groups], self._recipe.batch_size
        steps, step = epochs * -(-len(features) // size), 0
        order = np.random.default_rng((self._recipe.seed, epochs))
        for _ in range(epochs):
            with features.batches(order.permutation(len(features)), batch_size=size) as examples:
                for example in examples:
                    share = share_of_rate(step / steps, warmup=FitSettings().warmup)
                    for group, rate in zip(optimiser.param_groups, highest, strict=True):
                        group["lr"] = rate * share
                    optimiser.zero_grad()
                    loss_of(example).backward()
                    optimiser.step()
                    step += 1
            yield

    @torch.no_grad()
    def _latents(self, features: Features) -> torch.Tensor:
        """Return the latents of all images of some features."""
        with features.batches(np.arange(len(features)), batch_size=100) as examples:
            return torch.cat([self.bottleneck.encode(example.inputs) for example in examples])

    def _fill_budget(self, tables: torch.Tensor, judged: torch.Tensor) -> None:
        """Choose the gain by bisection, so that real payloads fill the budget; the prior is fitted to each gain."""
        bottleneck, gain, low, high = self.bottleneck, float(self.bottleneck.gain), 0.0, math.inf
        factor, size = 1.0, 0.0
        for _ in range(12):
            bottleneck.gain.fill_(gain * factor)
            _fit_prior(bottleneck, tables * factor)
            size = sum(map(len, bottleneck.payloads(judged * factor))) / len(judged) + HEADER_BYTES
            excess = size / self._recipe.budget_bytes - 1
            if abs(excess) < _FILLED:
                return
            low, high = (low, factor) if excess > 0 else (factor, high)
            bracketed = low > 0 and high < math.inf
            factor = (low * high) ** 0.5 if bracketed else factor * math.exp(-min(max(excess, -0.5), 0.5))
        msg = f"no gain brings the payload to {self._recipe.budget_bytes} bytes; the last took {size:.0f}"
        raise RuntimeError(msg)

    @torch.no_grad()
    def _accuracy(self, features: Features) -> float:
        """Return the share of right answers, without coding the latents."""
        self.bottleneck.eval()
        right = 0
        with features.batches(np.arange(len(features)), batch_size=64) as examples:
            for example in examples:
                rounded = self.bottleneck.quantised(self.bottleneck.encode(example.inputs))[0]
                right += int((self.answer(rounded).argmax(1) == example.labels).sum())
        return right / len(features)


def _fit_prior(bottleneck: LearnedBottleneck, latents: torch.Tensor) -> None:
    """Fit the prior alone to latents, and make the coder's tables from it."""
    bottleneck.prior.train()
    optimiser = torch.optim.Adam(bottleneck.prior_parameters(), lr=_PRIOR_RATE)
    order = np.random.default_rng(0)
    for step in range(_PRIOR_STEPS):
        for group in optimiser.param_groups:
            group["lr"] = _PRIOR_RATE * share_of_rate(step / _PRIOR_STEPS, warmup=0)
        optimiser.zero_grad()
        coded_bytes(bottleneck.quantised(latents[order.choice(len(latents), 64)])[1]).backward()
        optimiser.step()
    bottleneck.prior.eval()
    bottleneck.make_tables()
