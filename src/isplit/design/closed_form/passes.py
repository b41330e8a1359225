"""The passes over images of the fit part that the closed form takes its statistics from."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import torch
from numpy import int64
from numpy.typing import NDArray

from isplit.design.bottleneck.linear import LinearMap
from isplit.design.closed_form.kept_features import FeatureStore
from isplit.design.closed_form.kept_gradients import GradientStore
from isplit.design.closed_form.kept_sums import KeptSums
from isplit.design.closed_form.moments import (
    CutMoments,
    CutVectors,
    GradientVisit,
    adding,
    collect_latents,
    show_gradients,
)
from isplit.design.devices import device_of
from isplit.design.graph.features import FeaturePass, Visit
from isplit.design.inputs.batches import Batch, iter_batches
from isplit.design.kept_work import NOTHING_KEPT, KeptWork
from isplit.design.running import chosen_precision
from isplit.design.settings import PredictSettings
from isplit.design.study import StudyView
from isplit.progress import Progress
from isplit.records import Cut, Precision


@dataclass(frozen=True, eq=False)
class StatisticsImages:
    """Indices of the images that each statistic is taken from.

    Attributes:
        moments: The images of the moments.
        pilot: The first few of these, from which patches are chosen.
        held_out: Images that the moments are not from, where there are enough; latents are chosen and tables made from
            them, because those of the moments' own images are atypical.
        decoders: Images that the moments are not from, up to `decoder_factor` times as many; decoders are estimated
            again from them.
        joint_maps: Whether there are enough of both for maps over all positions.
        are_shared: Whether images of the moments are among those held out, because there are too few.

    """

    moments: NDArray[int64]
    pilot: NDArray[int64]
    held_out: NDArray[int64]
    decoders: NDArray[int64]
    joint_maps: bool
    are_shared: bool

    @classmethod
    def of(cls, view: StudyView, settings: PredictSettings) -> Self:
        """Divide the fit part."""
        tuning, every = settings.tuning, view.images("fit")
        moments, others = every[: settings.statistics_images], every[settings.statistics_images :]
        enough = len(others) >= min(len(moments), tuning.held_out_images)
        return cls(
            moments=moments,
            pilot=moments[: tuning.pilot_images],
            held_out=(others if enough else every)[: settings.statistics_images],
            decoders=others[: tuning.decoder_factor * settings.statistics_images],
            joint_maps=enough and len(moments) >= tuning.held_out_images,
            are_shared=not enough,
        )


@dataclass(frozen=True, eq=False)
class StatisticsPasses:
    """Passes over a study's images in its closed form's settings; each tells `progress` how far it is.

    What crosses the deepest cuts is kept between passes over the same images, in `features`, and what the moments of
    the pilot saw until those of all images are taken, in `gradients`.
    """

    view: StudyView
    settings: PredictSettings
    progress: Progress
    kept: KeptWork = NOTHING_KEPT
    features: FeatureStore = field(default_factory=FeatureStore)
    gradients: GradientStore = field(default_factory=GradientStore)

    @cached_property
    def images(self) -> StatisticsImages:
        """The images that each statistic is taken from."""
        return StatisticsImages.of(self.view, self.settings)

    @cached_property
    def precision(self) -> Precision:
        """The precision of the model's passes."""
        return chosen_precision(self.settings.precision, device=device_of(self.view.graph.module))

    def moments(
        self,
        vectors: Sequence[CutVectors],
        images: NDArray[int64],
        what: str,
        *,
        keep: bool = False,
        keep_gradients: bool = False,
    ) -> list[CutMoments]:
        """Return the moments of all vectors, from one forward and one backward pass over the images.

        Args:
            vectors: Vectors of cuts.
            images: Indices of the images.
            what: The name of the work.
            keep: Whether to keep what crosses the cuts, for a later pass over the same images.
            keep_gradients: Whether to keep that and the gradients, for the next moments, whose first images these are.

        """
        moments = [CutMoments(of_cut, images=len(images)) for of_cut in vectors]
        cuts = list({of_cut.cut.name: of_cut.cut for of_cut in vectors}.values())
        sums = KeptSums(self.kept.with_inputs(phase=what), moments)
        resumed = sums.resume()
        keep, keep_gradients = (wanted and resumed == 0 for wanted in (keep, keep_gradients))
        known = self.gradients.take(cuts, images[resumed:])
        if keep:
            self.features.begin(cuts, images)
        if keep_gradients:
            self.gradients.begin(cuts, images, batch_size=self.settings.batch_size)
        add = adding(moments)

        def visit(activation: torch.Tensor, gradient: torch.Tensor, cut: Cut) -> None:
            if keep:
                self.features.keep(cut, activation)
            if keep_gradients:
                self.gradients.keep(activation, gradient, cut)
            add(activation, gradient, cut)

        def told(images_done: int) -> None:
            sums.keep(images_done)
            self.progress(what, images_done, len(images))

        done = resumed
        for batch in known:
            for cut in cuts:
                visit(*batch[cut.name], cut)
            done += len(batch[cuts[0].name][0])
            told(done)
        self._show_gradients(cuts, images[done:], visit, lambda more: told(done + more))
        return moments

    def _show_gradients(
        self, cuts: Sequence[Cut], images: NDArray[int64], visit: GradientVisit, progress: Callable[[int], None]
    ) -> None:
        view = self.view
        labels = torch.from_numpy(view.classes.label_map)
        with self._batches(images) as batches:
            show_gradients(
                view.graph,
                cuts,
                batches,
                visit,
                objective=lambda logits, raw: view.classes.decision(logits, labels[raw], "correct"),
                precision=self.precision,
                progress=progress,
            )

    def latents(
        self,
        maps: Sequence[tuple[CutVectors, Sequence[LinearMap]]],
        images: NDArray[int64],
        *,
        keep: Sequence[Cut] = (),
    ) -> list[list[torch.Tensor]]:
        """Return the latents N×rank×P of all maps, of as many of the images as there is room for.

        Args:
            maps: Vectors of cuts, and the maps of each.
            images: Indices of the images.
            keep: Cuts at which to keep what crosses, for a later pass over the same images.

        """
        if keep:
            self.features.begin(keep, images)

        def show(cuts: Sequence[Cut], visit: Visit, has_enough: Callable[[], bool]) -> None:
            def both(cut: Cut, tensor: torch.Tensor) -> None:
                visit(cut, tensor)
                if keep:
                    self.features.keep(cut, tensor)

            self.show(cuts, images, both, until=has_enough)

        return collect_latents(maps, show, max_values=self.settings.tuning.max_latents)

    def show(
        self,
        cuts: Sequence[Cut],
        images: NDArray[int64],
        visit: Visit,
        *,
        progress: Callable[[int], None] = lambda done: None,
        until: Callable[[], bool] = lambda: False,
    ) -> None:
        """Show the visitor what crosses these cuts for the images, batch by batch, as each is kept or computed.

        Args:
            cuts: The cuts.
            images: Indices of the images.
            visit: Called with a cut and what crosses there, N×….
            progress: Called with the number of images that are done.
            until: Asked after each batch whether no more are needed.

        """
        kept = {cut.name: batches for cut in cuts if (batches := self.features.batches(cut, images)) is not None}
        with torch.no_grad():
            for cut in cuts:
                for tensor in kept.get(cut.name, []):
                    visit(cut, tensor)
        missing = [cut for cut in cuts if cut.name not in kept]
        if not missing or until():
            progress(len(images))
            return
        run, done = FeaturePass(self.view.graph, missing), 0
        with self._batches(images) as batches:
            for batch in batches:
                run.show(batch.images, visit, precision=self.precision)
                done += len(batch.labels)
                progress(done)
                if until():
                    return

    def _batches(self, images: NDArray[int64]) -> closing[Generator[Batch]]:
        view, size = self.view, self.settings.batch_size
        device = device_of(view.graph.module)
        return closing(iter_batches(view.data, images, view.preprocessing, batch_size=size, device=device))
