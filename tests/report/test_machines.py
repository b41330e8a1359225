"""The section about the machines of a plan: what was measured, with how many threads, and the times of parts."""

from pathlib import Path

import pytest

from isplit.records import CutTimes, Execution, PlacementMemory, PlannedMachine, PlanRecord, Power
from isplit.report import write_report
from isplit.report.machines import machines_view


def machine(name: str, whole_ms: float, **changes: object) -> PlannedMachine:
    cut = CutTimes(
        cut="features.4", head_ms=0.25 * whole_ms, head_source="measured", tail_ms=0.75 * whole_ms, tail_source="scaled"
    )
    known = PlannedMachine(name=name, title=name.title(), source="measured", whole_ms=whole_ms, cuts=(cut,))
    return known.model_copy(update=changes)


@pytest.fixture
def plan_record(plan_directory: Path) -> PlanRecord:
    """The plan from a Raspberry Pi 4 to a fast server."""
    return PlanRecord.load(plan_directory)


def test_measured_device_by_hand(plan_record: PlanRecord):
    """Threads, power, memory and energy are the profile's; the head is the device's and the tail the server's."""
    device = machine(
        "board",
        200.0,
        execution=Execution(provider="cpu", threads=3, warm_up_runs=5, runs=40, interleaved=True),
        memory=(PlacementMemory(placement="remote", peak_bytes=50 * 1024**2, baseline_bytes=0),),
        power=Power(meter="rapl", active_w=4.5, idle_w=2, energy_mj={"features.4": 321.0}),
    )

    view = machines_view(
        plan_record.model_copy(update={"machines": (device, machine("cloud", 8.0))}), cut_numbers={"features.4": 1}
    )

    assert view is not None
    assert ("device", "server") == tuple(words.role for words in view.machines)
    assert (
        "times are measured (profile board)",
        "3 threads on cpu, 40 runs",
        "the whole model in 200 ms",
        "4.5 W while it computes and 2 W while it waits, measured with rapl",
    ) == view.machines[0].facts
    assert [
        ["whole model", "200.00", "8.00", "measured", "–", "–"],
        ["features.4", "50.00", "6.00", "measured and scaled", "–", "321.0"],
        ["image alone", "–", "–", "–", "50.0", "–"],
    ] == [[cell.text for cell in row.cells] for row in view.table.rows]
    assert [None, 1, None] == [row.cut for row in view.table.rows]


def test_every_further_machine_has_a_column(plan_record: PlanRecord):
    """Over three tiers both servers are numbered; memory and energy that nobody measured have no column."""
    tiers = (machine("board", 200.0), machine("edge", 40.0), machine("cloud", 8.0))

    view = machines_view(plan_record.model_copy(update={"machines": tiers}), cut_numbers={})

    assert view is not None
    assert ["", "device, ms", "server 1, ms", "server 2, ms", ""] == [column.unit for column in view.table.columns]
    assert ["50.00", "30.00", "6.00"] == [cell.text for cell in view.table.rows[1].cells[1:4]]


def test_page_says_that_presets_are_estimated(plan_directory: Path):
    """A plan from presets has the section after its answer, and says that nobody measured these times."""
    page = (plan_directory / "report.html").read_text("utf-8")
    section = page[page.index('id="machines-section"') :]
    section = section[: section.index("</section>")]
    assert "Raspberry Pi 4" in section
    assert "times are estimated (profile pi4)" in section
    assert 'data-value="features.4"' in section
    assert page.index('id="plan-section"') < page.index('id="machines-section"')


def test_plan_of_an_earlier_version_has_no_such_section(plan_directory: Path, tmp_path: Path):
    """Its machines have no times; the page is written without them."""
    for path in plan_directory.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    record = PlanRecord.load(plan_directory)
    bare = tuple(machine.model_copy(update={"whole_ms": None, "cuts": ()}) for machine in record.machines)
    record.model_copy(update={"machines": bare}).save(tmp_path)

    write_report(tmp_path)

    page = (tmp_path / "report.html").read_text("utf-8")
    assert "machines-section" not in page
    assert "plan-section" in page
