"""The planner: how fast it is, whether it is exact, and how close its links are to ns-3.

    python benchmarks/planner.py [--only speed,tiers,simulator,scenarios,study,ns3]

speed       A study of 200 cuts at 5 budgets over 20 links: rows, costs, evaluation, front and choice of all.
tiers       200 random instances of three tiers: the dynamic programme beside CP-SAT (OR-tools), equal or not.
simulator   Requests per minute of 50 devices that share a link and a server, over TCP without and with loss, and UDP.
scenarios   Those of Split-Et-Impera (arXiv 2303.12524): 1 Gbit/s, packets of 1,010 bytes, 0 to 5 % errors, TCP with a
            timeout of 200 ms against UDP; local, remote, split, and split with an early exit for 60 % of the requests.
study       Plans of the VGG16 of the experiments (experiments/results/closed-form.jsonl: 1,000 test images, untrained
            splits) for two devices over five links.
ns3         Mean completion times of messages over five links with 0 to 5 % loss, TCP and UDP, beside ns-3; needs
            `pip install ns3` and is left out without it.

Results go to benchmarks/results/planner.json; parts that are not run keep their last figures.
"""

import argparse
import importlib.util
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the instances and the oracle are those of the tests

from isplit.plan import choose  # noqa: E402
from isplit.plan.compute import ModelShape, machine_times  # noqa: E402
from isplit.plan.costs import price  # noqa: E402
from isplit.plan.devices import load_device  # noqa: E402
from isplit.plan.evaluate import Load, evaluate  # noqa: E402
from isplit.plan.links import load_link  # noqa: E402
from isplit.plan.packets import FIXED_RTO_TCP, TcpPath, TcpSettings, send_tcp, send_udp  # noqa: E402
from isplit.plan.planner import plan  # noqa: E402
from isplit.plan.rows import placement_rows  # noqa: E402
from isplit.plan.simulation_settings import SimulationSettings  # noqa: E402
from isplit.plan.simulator import simulate  # noqa: E402
from isplit.plan.study_facts import ImageFacts, SplitFacts, StudyFacts  # noqa: E402
from isplit.plan.tiers import place_on_tiers  # noqa: E402
from isplit.records import (  # noqa: E402
    Budget,
    Compression,
    Crossing,
    Cut,
    GraphRecord,
    Limits,
    LinkRecord,
    PlannedAccuracy,
)

RESULTS = Path(__file__).parent / "results" / "planner.json"
NS3_TCP = TcpSettings(rto_floor_ms=200.0, rto_base_ms=0.0, rto_round_trips=1.0, rack=False)
"""ns-3 without RACK: its estimate of the timeout comes down to the round trip on an idle link, and 200 ms at least."""


def study(cuts: int, budgets: tuple[int, ...]) -> StudyFacts:
    """Return an invented study: a VGG16's operations spread over the cuts, losses that shrink with depth and bytes."""
    macs, parameters = 15_500_000_000, 138_000_000
    graph = GraphRecord(
        captured_by="torch.fx",
        input_shape=(3, 224, 224),
        input_bytes=602_112,
        output_shape=(1000,),
        macs=macs,
        parameters=parameters,
        uncounted=(),
        unavailable=(),
        cuts=tuple(
            Cut(
                name=f"features.{depth}",
                depth=depth,
                kind="default",
                op="relu",
                crossing=(Crossing(name="x", shape=(64, 56, 56), dtype="float32", bytes=802_816),),
                bytes=802_816,
                channel_axis=1,
                head_macs=macs * depth // (cuts + 1),
                tail_macs=macs - macs * depth // (cuts + 1),
                head_parameters=parameters // 10 * depth // (cuts + 1),
                tail_parameters=parameters - parameters // 10 * depth // (cuts + 1),
                head_peak_bytes=25_000_000,
                tail_peak_bytes=12_000_000,
            )
            for depth in range(1, cuts + 1)
        ),
    )

    def accuracy(loss: float, source: str) -> PlannedAccuracy:
        return PlannedAccuracy.model_validate(
            {"accuracy": 0.8 - loss, "low": 0.78 - loss, "high": 0.82 - loss, "difference": -loss, "stderr": 0.004,
             "source": source, "images": 1000}
        )  # fmt: skip

    splits = tuple(
        SplitFacts(
            cut=cut.name,
            budget=Budget(payload_bytes=size),
            design="linear",
            encoder_macs=5e6,
            decoder_macs=5e6,
            encoder_parameters=1e5,
            elements=size * 4,
            payload_bytes=size * 0.98,
            payload_p95_bytes=size * 1.1,
            accuracy=accuracy(0.2 * (1 - cut.depth / (cuts + 1)) * (128 / size) ** 0.5, "closed form"),
        )
        for cut in graph.cuts
        for size in budgets
    )
    images = tuple(
        ImageFacts(
            compression=Compression(format="webp", quality=quality),
            payload_bytes=200.0 * quality,
            payload_p95_bytes=260.0 * quality,
            accuracy=accuracy(0.5 / quality, "decoded images"),
        )
        for quality in (5, 20, 35, 50, 80)
    )
    return StudyFacts(
        directory="study",
        model="invented",
        model_fingerprint="0" * 64,
        group="all classes",
        graph=graph,
        whole=accuracy(0.0, "whole"),
        splits=splits,
        images=images,
    )


def speed() -> dict[str, Any]:
    """Time 200 cuts x 5 budgets x 20 links, lossy ones among them."""
    facts = study(200, (128, 256, 512, 1024, 2048))
    links = [load_link(name, name="link") for name in ("ethernet", "wifi", "5g", "4g", "3g", "lte-m", "nb-iot", "ble")]
    links += [load_link(f"{rate}Mbit/s,{rtt}ms,{loss}%", name="link")
              for rate in (1, 5, 20, 100) for rtt, loss in ((10, 0), (50, 1), (100, 5))]  # fmt: skip
    device, server = load_device("pi4", name="device"), load_device("jetson-orin-nano", name="server")
    limits, load = Limits(max_accuracy_loss=0.01, max_latency_ms=1000), Load()
    seconds: list[float] = []

    def plan_all() -> tuple[list[str], int]:
        shape = ModelShape.from_graph(facts.graph)
        machines = [machine_times(profile, shape, model_fingerprint=None) for profile in (device, server)]
        costs = price(placement_rows(facts, shape), facts, device=machines[0], server=machines[1])
        chosen: list[str] = []
        for link in links:
            results = evaluate(costs, link, load)
            checks = choose.measures(costs, results, limits, load)
            keeps = choose.allowed(costs, checks, results.total_ms.shape) & choose.considered(costs)
            index = int(choose.best(choose.score(costs, results, "latency"), keeps))
            choose.pareto_front(results.total_ms, costs.up_bytes + costs.down_bytes, costs.loss)
            chosen.append(costs.rows[index].name if index >= 0 else "")
        return chosen, len(costs.rows)

    answers: list[str] = []
    rows = 0
    for _ in range(5):
        started = time.perf_counter()
        answers, rows = plan_all()
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    record = plan(facts, device=device, server=server, link="4g", limits=limits)
    return {
        "placements": rows * len(links),
        "seconds_median_of_5": float(np.median(seconds)),
        "seconds_shortest": min(seconds),
        "different_answers": len(set(answers)),
        "one_whole_plan_with_record_and_switching_points_s": time.perf_counter() - started,
        "placements_of_that_plan": len(record.placements),
    }


def tiers(instances: int = 200) -> dict[str, Any]:
    """Compare the dynamic programme with CP-SAT on random instances of three tiers and 12 cuts."""
    from tests.plan.test_tiers import cp_sat, random_problem

    equal, ours_s, theirs_s = 0, 0.0, 0.0
    for seed in range(instances):
        problem = random_problem(10_000 + seed, cuts=12)
        started = time.perf_counter()
        placement = place_on_tiers(problem)
        ours_s += time.perf_counter() - started
        started = time.perf_counter()
        oracle = cp_sat(problem)
        theirs_s += time.perf_counter() - started
        cost = np.inf if placement is None else placement.cost_ms
        equal += bool(oracle == cost or abs(oracle - cost) < 1e-6)
    large = random_problem(1, cuts=200)
    started = time.perf_counter()
    place_on_tiers(large)
    return {
        "instances": instances,
        "equal": equal,
        "dynamic_programme_ms": 1e3 * ours_s / instances,
        "cp_sat_ms": 1e3 * theirs_s / instances,
        "dynamic_programme_200_cuts_ms": 1e3 * (time.perf_counter() - started),
    }


def simulator() -> dict[str, Any]:
    """Count requests per minute of 50 devices for 20 minutes."""
    facts, rates = study(20, (256, 1024)), {}
    for name, figures, transport in (
        ("tcp", "20Mbit/s,30ms", "tcp"),
        ("tcp_2_percent_loss", "20Mbit/s,30ms,2%", "tcp"),
        ("udp_2_percent_loss", "20Mbit/s,30ms,2%", "udp"),
    ):
        record = plan(facts, device="pi5", server="jetson-orin-nano", link=figures)
        settings = SimulationSettings(devices=50, duration_s=1200, transport=transport, workers=4)  # type: ignore[arg-type]
        result = simulate(record, settings=settings)
        rates[name] = {
            "requests": sum(result_row.requests for result_row in result.results),
            "per_minute": result.requests_per_minute,
        }
    return rates


def scenarios() -> dict[str, Any]:
    """Run the scenarios of Split-Et-Impera on the invented study."""
    facts = study(20, (1024,))
    split = "features.10 @ 1024B"
    rows: list[dict[str, Any]] = []
    for loss in (0, 1, 2, 3, 4, 5):
        link = load_link(f"1Gbit/s,0.2ms,{loss}%", name="link").model_copy(update={"mtu_bytes": 1010})
        record = plan(facts, device="jetson-nano", server="jetson-orin-nano", link=link)
        for transport in ("tcp", "udp"):
            for name, placement, share in (
                ("local", "local", 0.0),
                ("remote", "remote WebP q80", 0.0),
                ("split", split, 0.0),
                ("early exit", split, 0.6),
            ):
                settings = SimulationSettings(
                    arrivals="periodic", period_ms=2000, duration_s=4000, deadline_ms=500, tcp=FIXED_RTO_TCP,
                    transport=transport, early_exit_share=share,  # type: ignore[arg-type]
                )  # fmt: skip
                result = simulate(record, placements=[placement], settings=settings).results[0]
                rows.append(
                    {
                        "scenario": name,
                        "transport": transport,
                        "loss_percent": loss,
                        "mean_ms": result.latency.mean_ms,
                        "p95_ms": result.latency.p95_ms,
                        "max_ms": result.latency.max_ms,
                        "frames_lost_share": result.lost / result.requests,
                        "packets_lost": result.packets_lost,
                        "late_or_lost_share": result.deadline_misses / result.requests,
                    }
                )
    return {"device": "jetson-nano", "server": "jetson-orin-nano", "split": split, "rows": rows}


def ns3() -> dict[str, Any] | None:
    """Compare mean completion times with ns-3 over five links."""
    if importlib.util.find_spec("ns") is None:
        return None
    from isplit.plan.ns3_engine import transfer_with_ns3

    links = ("250kbit/s,100ms", "1Mbit/s,50ms", "5Mbit/s,30ms", "20Mbit/s,20ms", "100Mbit/s,10ms")
    rows: list[dict[str, Any]] = []
    for figures in links:
        for loss in (0.0, 0.02, 0.05):
            link = load_link(figures, name="link").model_copy(update={"loss_up": loss, "loss_down": loss})
            for transport in ("tcp", "udp"):
                for size in (358, 20_000):
                    runs = 1 if loss == 0 else (300 if transport == "tcp" else 100)
                    times, received = transfer_with_ns3(size, link, transport=transport, tcp=NS3_TCP, runs=runs)  # type: ignore[arg-type]
                    ours, arrived = own(size, link, transport, 1 if loss == 0 else 4000)
                    whole = received >= size if transport == "udp" else np.ones(runs, bool)
                    theirs = float(np.mean(times[whole]))
                    rows.append(
                        {
                            "link": figures,
                            "loss": loss,
                            "transport": transport,
                            "bytes": size,
                            "ns3_mean_ms": theirs,
                            "isplit_mean_ms": ours,
                            "difference_share": ours / theirs - 1,
                            "ns3_standard_error_share": float(
                                np.std(times[whole]) / np.sqrt(max(whole.sum(), 1)) / theirs
                            ),
                            "ns3_arrived_share": float(np.mean(received >= size)),
                            "isplit_arrived_share": arrived,
                        }
                    )
    errors = np.abs([row["difference_share"] for row in rows])
    return {
        "combinations": len(rows),
        "median_error": float(np.median(errors)),
        "p95_error": float(np.percentile(errors, 95)),
        "largest_error": float(errors.max()),
        "within_10_percent": int((errors <= 0.1).sum()),
        "rows": rows,
    }


def own(size: int, link: LinkRecord, transport: str, runs: int) -> tuple[float, float]:
    """Return our mean completion time of whole messages, and the share that arrives."""
    random = np.random.default_rng(0)
    if transport == "udp":
        results = [
            send_udp(size, rate_bits_per_s=link.up_bits_per_s, rtt_ms=link.rtt_ms, loss=link.loss_up,
                     packet_bytes=link.mtu_bytes, random=random)[0]
            for _ in range(runs)
        ]  # fmt: skip
        whole = [result for result in results if result.packets_lost == 0]
        return float(np.mean([result.completion_ms for result in whole])), len(whole) / runs
    path = TcpPath(rate_bits_per_s=link.up_bits_per_s, rtt_ms=link.rtt_ms, loss=link.loss_up, ack_loss=link.loss_down)
    times = [send_tcp(size, path=path, settings=NS3_TCP, random=random).completion_ms for _ in range(runs)]
    return float(np.mean(times)), 1.0


def real_study() -> dict[str, Any]:
    """Plan the VGG16 of the experiments (64 px, 20 classes) from its measured splits and images, untrained."""
    lines = (ROOT / "experiments" / "results" / "closed-form.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["part"] == "payload"]
    graph = vgg16_graph()
    splits = tuple(
        SplitFacts(
            cut=row["cut"],
            budget=Budget(payload_bytes=row["budget"]),
            design="linear",
            encoder_macs=max(row["head_mac_share"] * graph.macs - graph.cut(row["cut"]).head_macs, 0.0),
            decoder_macs=max(row["head_mac_share"] * graph.macs - graph.cut(row["cut"]).head_macs, 0.0),
            encoder_parameters=1e5,
            elements=row["elements"],
            payload_bytes=row["payload_bytes"],
            payload_p95_bytes=row["p95_bytes"],
            accuracy=measured(row, "closed form"),
        )
        for row in rows
        if "cut" in row
    )
    images = tuple(
        ImageFacts(
            compression=Compression(format=row["format"], quality=row["quality"], scale=row["scale"]),
            payload_bytes=row["payload_bytes"],
            payload_p95_bytes=1.3 * row["payload_bytes"],
            accuracy=measured(row, "decoded images"),
        )
        for row in rows
        if "format" in row
    )
    whole = next(row["whole"] for row in rows if "cut" in row)
    facts = StudyFacts(
        directory="study",
        model="torchvision:vgg16",
        model_fingerprint="0" * 64,
        group="all classes",
        graph=graph,
        whole=PlannedAccuracy(
            accuracy=whole, low=whole - 0.025, high=whole + 0.025, difference=0.0, stderr=0.0, source="whole",
            images=1000, part="test",
        ),
        splits=splits,
        images=images,
    )  # fmt: skip
    answers: dict[str, Any] = {"splits": len(splits), "images": len(images)}
    for device in ("pi4", "pi5"):
        for link in ("wifi", "4g", "3g", "lte-m", "nb-iot"):
            record = plan(facts, device=device, server="jetson-orin-nano", link=link)
            fastest = {
                kind: min((row for row in record.placements if row.kind == kind and not row.violates),
                          key=lambda row: row.latency_ms, default=None)
                for kind in ("local", "remote", "split")
            }  # fmt: skip
            answers[f"{device} over {link}"] = {
                "text": record.answer.text,
                "chosen": record.answer.chosen,
                "latency_ms": {kind: row and round(row.latency_ms, 1) for kind, row in fastest.items()},
                "energy_mj": {kind: row and row.device_energy_mj for kind, row in fastest.items()},
                "wire_bytes": {kind: row and row.wire_up_bytes + row.wire_down_bytes for kind, row in fastest.items()},
            }
    return answers


def measured(row: dict[str, Any], source: str) -> PlannedAccuracy:
    """Return the accuracy of a line of the experiments."""
    half = 1.96 * (row["accuracy"] * (1 - row["accuracy"]) / row["images"]) ** 0.5
    return PlannedAccuracy.model_validate(
        {"accuracy": row["accuracy"], "low": row["accuracy"] - half, "high": row["accuracy"] + half,
         "difference": -row["loss"], "stderr": row["loss_stderr"], "source": source, "images": row["images"],
         "part": "test"}
    )  # fmt: skip


def vgg16_graph(side: int = 64) -> GraphRecord:
    """Return the cuts of VGG16's trunk after each activation and pool, with their operations at `side` pixels."""
    cuts: list[Cut] = []
    index, channels, macs, parameters, peak = 0, 3, 0, 0, 4 * 3 * side * side
    start = side

    def add(name: str) -> None:
        size = 4 * channels * side * side
        cuts.append(
            Cut(
                name=name, depth=len(cuts) + 1, kind="default", op="relu",
                crossing=(Crossing(name=name, shape=(channels, side, side), dtype="float32", bytes=size),),
                bytes=size, channel_axis=1, head_macs=macs, tail_macs=0, head_parameters=parameters,
                tail_parameters=0, head_peak_bytes=peak, tail_peak_bytes=peak,
            )
        )  # fmt: skip

    for width, layers in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(layers):
            macs += 9 * channels * width * side * side
            parameters += 9 * channels * width + width
            peak = max(peak, 4 * (channels + width) * side * side)
            channels = width
            index += 2
            add(f"features.{index - 1}")
        side //= 2
        add(f"features.{index}")
        index += 1
    done = [
        cut.model_copy(update={"tail_macs": macs - cut.head_macs, "tail_parameters": parameters - cut.head_parameters})
        for cut in cuts
    ]
    return GraphRecord(
        captured_by="torch.fx", input_shape=(3, start, start), input_bytes=12 * start * start, output_shape=(20,),
        macs=macs, parameters=parameters, uncounted=(), cuts=tuple(done), unavailable=(),
    )  # fmt: skip


def main() -> None:
    """Run the parts that were asked for, and write their figures."""
    parts = {
        "speed": speed,
        "tiers": tiers,
        "simulator": simulator,
        "scenarios": scenarios,
        "study": real_study,
        "ns3": ns3,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(parts), help="Parts, separated by commas.")
    chosen = parser.parse_args().only.split(",")
    figures: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    figures["machine"] = f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}"
    for name, part in parts.items():
        if name in chosen:
            result = part()
            if result is None:
                print(f"{name}: left out, ns-3 is not installed")
                continue
            figures[name] = result
            short = {key: value for key, value in result.items() if key != "rows"}
            print(name, json.dumps(short, indent=1))
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
