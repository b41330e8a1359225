"""Measure variants of the closed form at equal bytes: other rounding, other decoders on the server, context tables.

    python experiments/closed_form_variants.py STUDY NAME CUT... [--budgets 96,256]

STUDY is what `isplit analyze` wrote, and NAME what its rows are called. For every cut and budget the closed form is
solved as `isplit predict` does. Then each variant is measured on the test part, on the same images:

dead zone       Latents are shrunk by a share of the step before they are rounded, so that more of them become zero.
                The step is chosen anew, so that payloads take the same bytes.
least squares   The decoder is estimated again from dequantised latents, by ridge regression on the fit part; without
                a map over all positions it sees the latents of the neighbouring patches too.
random features The same with random nonlinear features of these latents beside them (Rahimi and Recht 2007).
context         The bits that tables would take which depend on how large the latents before, or those of the patches
                above and to the left, are. These tables are made from the images of the tables, and take no part in
                decoding: only their bytes count.

Rows are kept in experiments/results/closed-form-variants.jsonl; a row that is there is not measured again. `--table`
prints all rows instead.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pausing import pause_point
from result_rows import Row, cut_parser, packed, read_options, read_rows, unpacked
from torch.nn import functional

from isplit.design.bottleneck.coding import CodecOwner, LatentQuantiser
from isplit.design.bottleneck.linear import LinearBottleneck
from isplit.design.closed_form.bases import closed_form_bases
from isplit.design.closed_form.build import build_split
from isplit.design.graph import split
from isplit.design.graph.features import FeaturePass
from isplit.design.inputs.batches import iter_batches
from isplit.design.settings import PredictSettings
from isplit.design.splits import BuiltSplit
from isplit.design.study import Study, open_study
from isplit.design.training.rate import CodedLatents, RateControl, SampleLatents
from isplit.records import Budget

RESULTS = Path(__file__).parent / "results" / "closed-form-variants.jsonl"
DEAD_ZONES = (0.1, 0.2)
RIDGES = (0.01, 0.1, 1.0, 10.0)
RANDOM_FEATURES = 1000


def main() -> None:
    """Measure what is missing, or print the rows."""
    parser = cut_parser(__doc__, budgets="96,256")
    parser.add_argument("--images", type=int, default=3000, help="of the fit part, for the decoders")
    options = read_options(parser)
    if not options.table:
        for cut in options.cuts:
            study = open_study(options.study, allow_code=options.allow_code)
            run(study, options.name, cut, options.budgets, images=options.images)
    print_table()


def run(study: Study, name: str, cut: str, budgets: Sequence[Budget], *, images: int) -> None:
    """Measure all variants of a cut at the budgets that have no rows yet."""
    done = {(row["name"], row["cut"], row["budget"]) for row in read_rows(RESULTS)}
    missing = [budget for budget in budgets if (name, cut, budget.payload_bytes) not in done]
    if not missing:
        return
    settings = PredictSettings()
    (bases,) = closed_form_bases(study.view(), missing, study.cuts((cut,)), settings)
    view = study.view()
    fit = view.images("fit")
    crossing = {
        "fit": features(study, cut, fit[settings.statistics_images :][:images]),
        "test": features(study, cut, view.images("test")),
    }
    labels = torch.from_numpy(view.classes.label_map)[torch.tensor([study.data.labels[i] for i in view.images("test")])]
    for budget in missing:
        pause_point()
        lab = Lab(study, build_split(view, bases[budget][0], budget), budget, crossing, labels)
        with RESULTS.open("a") as file:
            for row in lab.rows():
                place = {"name": name, "cut": cut, "budget": budget.payload_bytes}
                file.write(json.dumps(place | row) + "\n")
                print(place | {key: row[key] for key in ("variant", "error", "accuracy", "payload_bytes")}, flush=True)


def features(study: Study, cut: str, images: np.ndarray) -> torch.Tensor:
    """Return what crosses a cut for some images, N×…."""
    parts: list[torch.Tensor] = []
    run = FeaturePass(study.graph, study.cuts((cut,)))
    for batch in iter_batches(study.data, images, study.model.preprocessing, batch_size=50):
        run(batch.images, lambda _, tensor: parts.append(tensor.clone()))
    return torch.cat(parts)


@dataclass(frozen=True, eq=False)
class Lab:
    """One closed-form split, and what crosses its cut on the fit and the test part.

    `labels` are those of the test images, counted within the study's classes.
    """

    study: Study
    built: BuiltSplit
    budget: Budget
    crossing: dict[str, torch.Tensor]
    labels: torch.Tensor

    @torch.no_grad()
    def rows(self) -> list[Row]:
        """Measure the closed form as it is, then every variant."""
        quantiser = self.built.quantiser
        latents = {part: self.built.bottleneck.encode(tensor) for part, tensor in self.crossing.items()}
        received = {part: quantiser.values(quantiser.symbols(values)) for part, values in latents.items()}
        decoded = {part: self.built.bottleneck.decode(values) for part, values in received.items()}
        test_bytes = self.built.codec.payload_bytes(quantiser.symbols(latents["test"]).numpy()).mean()
        rows = [{"variant": "closed form", **self._answers(decoded["test"]), "payload_bytes": float(test_bytes)}]
        rows += [self._dead_zone(latents, share) for share in DEAD_ZONES]
        for variant, count in (("least squares", 0), ("random features", RANDOM_FEATURES)):
            corrected = self._corrected(received, decoded, random_features=count)
            rows.append({"variant": variant, **self._answers(corrected), "payload_bytes": float(test_bytes)})
        symbols = {part: quantiser.symbols(values) for part, values in latents.items()}
        before = rows[0] | {"variant": "context", "payload_bytes": float(test_bytes - context_gain(symbols))}
        return [*rows, before]

    def _dead_zone(self, latents: dict[str, torch.Tensor], share: float) -> Row:
        """Shrink the latents by a share of the step before rounding, at a step that takes the same bytes."""
        steps = self.built.quantiser.steps(latents["fit"])
        control = RateControl(owner=CodecOwner("model", "cut"), budget=self.budget)
        tables = latents["fit"][:640]

        def shrink(factor: float) -> dict[str, torch.Tensor]:
            return {part: functional.softshrink(values / (steps * factor), share) for part, values in latents.items()}

        def code(shrunk: dict[str, torch.Tensor]) -> CodedLatents:
            sample = SampleLatents(tables=shrunk["fit"][:640], judged=shrunk["fit"][640:])
            return control(sample, before=LatentQuantiser(self.built.quantiser.quantiser))

        # The shrinking has to be of the step that follows from it, so the two are found in turn.
        factor = 1.0
        for _ in range(3):
            factor *= float(code(shrink(factor)).quantiser.quantiser.steps[0])
        shrunk = shrink(factor)
        coded = code(shrunk)
        factor *= float(coded.quantiser.quantiser.steps[0])
        unit = steps * factor / float(coded.quantiser.quantiser.steps[0])
        rounded = {
            part: coded.quantiser.values(coded.quantiser.symbols(values)) * unit for part, values in shrunk.items()
        }
        power = rounded["fit"][:640].square().sum((0, 2), keepdim=True)
        gain = (tables * rounded["fit"][:640]).sum((0, 2), keepdim=True) / power.clamp_min(1e-30)
        # The closed form's decoder has gains of its own; they are replaced.
        old = self.built.quantiser.values(self.built.quantiser.symbols(tables))
        old_gain = (tables * old).sum((0, 2), keepdim=True) / old.square().sum((0, 2), keepdim=True).clamp_min(1e-30)
        decoded = self.built.bottleneck.decode(rounded["test"] * gain / old_gain.clamp_min(1e-3))
        size = coded.codec.payload_bytes(coded.quantiser.symbols(shrunk["test"]).numpy()).mean()
        return {"variant": f"dead zone {share}", **self._answers(decoded), "payload_bytes": float(size)}

    def _corrected(
        self, received: dict[str, torch.Tensor], decoded: dict[str, torch.Tensor], *, random_features: int
    ) -> torch.Tensor:
        """Add to what is decoded on the test part what a regression on the fit part expects to be missing."""
        bottleneck = self.built.bottleneck
        assert isinstance(bottleneck, LinearBottleneck)
        layout = bottleneck.linear_maps[-1].layout
        inputs = {part: neighbourhoods(values, layout.grid) for part, values in received.items()}
        scale = inputs["fit"].flatten(0, 1).std(0).clamp_min(1e-6)
        inputs = {part: values / scale for part, values in inputs.items()}
        if random_features:
            generator = torch.Generator().manual_seed(0)
            width = inputs["fit"].shape[2]
            weights = torch.randn(width, random_features, generator=generator) / width**0.5
            offsets = torch.randn(random_features, generator=generator)
            inputs = {
                part: torch.cat([values, torch.relu(values @ weights + offsets)], dim=2)
                for part, values in inputs.items()
            }
        joint = bottleneck.joint is not None
        missing = self.crossing["fit"] - decoded["fit"]
        targets = missing.flatten(1)[:, None] if joint else layout.split(missing)
        predicted = ridge(inputs["fit"], targets, inputs["test"])
        addition = predicted.reshape(decoded["test"].shape) if joint else layout.join(predicted)
        return decoded["test"] + addition

    def _answers(self, decoded: torch.Tensor) -> Row:
        """Return accuracy, divergence from the whole model, and squared error of what is decoded on the test part."""
        cut = self.built.cut
        tail = split(self.study.graph, cut.name).tail.eval()
        logits, whole = (
            torch.cat([tail(self.study.graph.lay_out(part, cut)) for part in tensor.split(50)])
            for tensor in (decoded, self.crossing["test"])
        )
        right = logits.argmax(1) == self.labels
        answered, wanted = logits.double().log_softmax(1), whole.double().log_softmax(1)
        return {
            "images": len(right),
            "accuracy": float(right.double().mean()),
            "whole": float((whole.argmax(1) == self.labels).double().mean()),
            "divergence_nats": float(functional.kl_div(answered, wanted, log_target=True, reduction="batchmean")),
            "error": float((decoded - self.crossing["test"]).square().mean() / self.crossing["test"].var()),
            "right": packed(right.numpy()),
        }


def neighbourhoods(latents: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """Return for each position of N×K×P the latents of its 3×3 neighbourhood, N×P×9K; one position has no others."""
    if latents.shape[2] == 1:
        return latents.transpose(1, 2)
    columns = functional.unfold(latents.unflatten(2, tuple(grid)), 3, padding=1)
    return columns.transpose(1, 2)


def ridge(inputs: torch.Tensor, targets: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Regress targets N×P×D on inputs N×P×F, and return what follows for other inputs; a fifth chooses the ridge."""
    count = len(inputs) * 4 // 5
    x, y = inputs[:count].flatten(0, 1).double(), targets[:count].flatten(0, 1).double()
    mean, target_mean = x.mean(0), y.mean(0)
    gram, moment = (x - mean).T @ (x - mean) / len(x), (x - mean).T @ (y - target_mean) / len(x)
    judged, wanted = inputs[count:].flatten(0, 1).double() - mean, targets[count:].flatten(0, 1).double() - target_mean
    floor = gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    weights = [torch.linalg.solve(gram + share * floor, moment) for share in RIDGES]
    best = min(weights, key=lambda matrix: float((judged @ matrix - wanted).square().sum()))
    return ((others.double() - mean) @ best + target_mean).float()


def context_gain(symbols: dict[str, torch.Tensor]) -> float:
    """Return the bytes per image that tables with four contexts would save on the test part.

    The context of a latent is how large the latents before it are, each in units of its own mean size: of the same
    channel above and to the left where there are positions, and of all channels before it where there are none.
    """
    middle = symbols["fit"].float().mean((0, 2)).round()[:, None]
    sizes = {part: (values.float() - middle).abs() for part, values in symbols.items()}
    usual = sizes["fit"].mean((0, 2)).clamp_min(1e-3)[:, None]
    activity: dict[str, torch.Tensor] = {}
    for part, values in sizes.items():
        relative = (values / usual).clamp_max(4)
        before = relative.cumsum(1) - relative
        counts = torch.arange(relative.shape[1])[:, None].clamp_min(1)
        activity[part] = before / counts
    levels = int(max(values.max() for values in symbols.values())) + 1
    bounds = torch.quantile(
        activity["fit"].flatten()[:: max(1, activity["fit"].numel() // 10**6)], torch.tensor([0.25, 0.5, 0.75])
    )
    classes = {part: torch.bucketize(values, bounds) for part, values in activity.items()}
    return (coded_bits(symbols, None, levels) - coded_bits(symbols, classes, levels)) / 8


def coded_bits(symbols: dict[str, torch.Tensor], classes: dict[str, torch.Tensor] | None, levels: int) -> float:
    """Return the mean bits of a test image under tables of the fit images, one for each channel and context."""
    channels = symbols["fit"].shape[1]
    rows = {
        part: (torch.arange(channels)[:, None] * 4 + (0 if classes is None else classes[part])) * levels + values.long()
        for part, values in symbols.items()
    }
    counts = torch.bincount(rows["fit"].flatten(), minlength=channels * 4 * levels).reshape(-1, levels).double()
    # A share of each channel's own histogram keeps contexts that were seldom seen from having no symbol at all.
    of_channel = counts.reshape(channels, 4, levels).sum(1) + 0.02
    of_channel = (of_channel / of_channel.sum(1, keepdim=True)).repeat_interleave(4, dim=0)
    shares = (counts + 8 * of_channel) / (counts.sum(1, keepdim=True) + 8)
    return float(-shares.log2().flatten()[rows["test"].flatten()].sum()) / len(symbols["test"])


def print_table() -> None:
    """Print each variant beside the closed form, with the paired difference of accuracies and its standard error."""
    first: dict[tuple[str, str, int], np.ndarray] = {}
    for row in read_rows(RESULTS):
        place = row["name"], row["cut"], row["budget"]
        right = unpacked(row["right"], row["images"]).astype(float)
        difference = right - first.setdefault(place, right)
        print(
            f"{row['name']:18} {row['cut']:18} {row['budget']:4} B  {row['variant']:16} {row['payload_bytes']:6.1f} B  "
            f"error {row['error']:.4f}  KL {row['divergence_nats']:.3f}  {row['accuracy']:.1%}  "
            f"{100 * difference.mean():+.1f} ± {100 * difference.std() / len(right) ** 0.5:.1f}"
        )


if __name__ == "__main__":
    main()
