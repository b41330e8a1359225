"""Tests mirror the package: the tests of `x.py` are in `test_x.py`, and what differs is listed here with its reason."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "isplit"
MOST_LINES = 350

# Modules in which there is nothing to test.
NOTHING_TO_TEST = {
    "design/closed_form_tuning.py": "constants with their reasons",
    "design/inputs/built.py": "a class of four fields",
    "progress.py": "a type, and a function that does nothing",
    "records/data_check.py": "fields; tests/records/test_field_limits.py pins them",
    "records/simulation.py": "fields; tests/records/test_field_limits.py pins them",
    "runtime/names.py": "names and limits that both sides take from here",
    "runtime/server/front/output.py": "a protocol",
}

# Modules whose behaviour is tested where it shows.
TESTED_ELSEWHERE = {
    "api/analysis.py": "test_walk.py",
    "api/output.py": "test_walk.py",
    "api/training.py": "test_walk.py",
    "cli/bench.py": "workflows/test_bench.py",
    "cli/console.py": "cli/test_tables_at_80_columns.py",
    "cli/cuts.py": "cli/test_cuts_and_report.py",
    "cli/lost_latents.py": "cli/test_simulate.py",
    "cli/plan_options.py": "cli/test_plan.py",
    "cli/probe.py": "runtime/edge/test_probe.py",
    "cli/profile.py": "workflows/test_profile.py",
    "cli/report.py": "cli/test_cuts_and_report.py",
    "cli/run.py": "runtime/edge/test_run_command.py",
    "cli/server_access.py": "runtime/test_access.py",
    "cli/study_options.py": "cli/test_model_options.py",
    "codec/numpy_rans.py": "codec/test_rans.py",
    "design/bottleneck/base.py": "design/bottleneck/test_contract.py",
    "design/bottleneck/coding.py": "design/bottleneck/test_contract.py",
    "design/bottleneck/identity.py": "design/bottleneck/test_contract.py",
    "design/bottleneck/linear.py": "design/bottleneck/test_contract.py",
    "design/bottleneck/sides.py": "design/bottleneck/test_contract.py",
    "design/bottleneck/undercomplete.py": "design/bottleneck/test_contract.py",
    "design/closed_form/bases.py": "design/closed_form/test_build.py",
    "design/closed_form/basis.py": "design/closed_form/test_joint.py",
    "design/closed_form/kept_forms.py": "design/test_kept_work.py",
    "design/closed_form/kept_gradients.py": "design/closed_form/test_passes.py",
    "design/closed_form/kept_sums.py": "design/test_kept_work.py",
    "design/demo.py": "cli/test_demo.py",
    "design/export_segments.py": "cli/test_segments.py",
    "design/inputs/encoded_images.py": "design/inputs/test_item_sets.py",
    "design/model_cuts.py": "test_examples.py",
    "design/onnx/compare.py": "design/test_export.py",
    "design/onnx/int8.py": "design/test_export_extras.py",
    "design/onnx/output_directory.py": "design/test_export_refusal.py",
    "design/onnx/recommended_image.py": "design/test_export.py",
    "design/onnx/triton.py": "design/test_export_extras.py",
    "design/profile_parts.py": "workflows/test_profile_study.py",
    "design/testing.py": "design/graph/test_families.py",
    "design/training/loop.py": "design/test_fit.py",
    "design/training/remote.py": "design/test_fit_remote.py",
    "design/training/split_network.py": "design/test_fit.py",
    "design/training/start.py": "design/test_fit.py",
    "plan/advice.py": "plan/test_planner.py",
    "plan/compute.py": "plan/test_machines.py",
    "plan/controllers.py": "plan/test_simulator.py",
    "plan/costs.py": "plan/test_planner.py",
    "plan/evaluate.py": "plan/test_planner.py",
    "plan/messages.py": "plan/test_simulator.py",
    "plan/recommend.py": "plan/test_planner.py",
    "plan/rows.py": "plan/test_planner.py",
    "plan/special_rows.py": "plan/test_segments.py",
    "plan/study_facts.py": "plan/test_planner.py",
    "plan/summary.py": "plan/test_planner.py",
    "plan/switching.py": "plan/test_planner.py",
    "records/verification.py": "design/test_verify.py",
    "report/class_tables.py": "report/test_report.py",
    "report/curve_data.py": "report/test_curve_series.py",
    "report/figures/classes.py": "report/test_appearance.py",
    "report/figures/plan.py": "report/test_plan.py",
    "report/figures/splits.py": "report/test_splits.py",
    "report/page.py": "report/test_report.py",
    "report/plan_view.py": "report/test_plan.py",
    "report/split_series.py": "report/test_splits.py",
    "report/tables.py": "report/test_report.py",
    "report/text.py": "report/test_report.py",
    "runtime/edge/connecting.py": "runtime/edge/test_lean_transport.py",
    "runtime/edge/lean_link.py": "runtime/edge/test_lean_transport.py",
    "runtime/edge/pictures.py": "runtime/edge/test_sources.py",
    "runtime/external_data.py": "runtime/test_bundle.py",
    "runtime/profile/memory.py": "runtime/profile/test_measure.py",
    "runtime/profile/parts.py": "runtime/profile/test_measure.py",
    "runtime/profile/pictures.py": "runtime/profile/test_measure.py",
    "runtime/served.py": "runtime/edge/test_probe.py",
    "runtime/server/front/call.py": "runtime/server/front/test_connection.py",
    "runtime/server/front/method.py": "runtime/server/front/test_hub.py",
    "runtime/server/front/peer.py": "runtime/server/front/test_connection.py",
    "runtime/server/front/running.py": "runtime/server/front/test_connection.py",
    "runtime/server/lean_service.py": "runtime/server/test_lean.py",
    "runtime/server/pictures.py": "runtime/server/test_decoding.py",
    "runtime/server/probe.py": "runtime/edge/test_probe.py",
    "workflows/auto.py": "cli/test_auto.py",
}


def modules() -> list[str]:
    """Return all modules but those of packages' own names, which import and export."""
    paths = (path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))
    return sorted(path.as_posix() for path in paths if path.name not in ("__init__.py", "__main__.py"))


def place_of_tests(module: str) -> Path:
    """Return where the tests of a module belong."""
    return TESTS / Path(module).with_name(f"test_{Path(module).name}")


def test_every_module_has_its_tests():
    """A new module comes with `test_x.py`, or with a line in one of the tables above."""
    listed = {*NOTHING_TO_TEST, *TESTED_ELSEWHERE}
    assert [] == [module for module in modules() if not place_of_tests(module).exists() and module not in listed]


def test_the_tables_hold_what_they_should():
    """A module that has gone, or that has tests of its own by now, is taken out."""
    known = set(modules())
    assert [] == [name for name in (*NOTHING_TO_TEST, *TESTED_ELSEWHERE) if name not in known]
    assert [] == [name for name in (*NOTHING_TO_TEST, *TESTED_ELSEWHERE) if place_of_tests(name).exists()]
    assert set() == set(NOTHING_TO_TEST) & set(TESTED_ELSEWHERE)


@pytest.mark.parametrize("path", sorted(set(TESTED_ELSEWHERE.values())))
def test_the_other_place_exists(path):
    """The file that a table names is there."""
    assert (TESTS / path).is_file()


def test_no_file_is_long():
    """A file is about one subject: what a reader looks for is found by its name."""
    paths = [*SOURCE.rglob("*.py"), *TESTS.rglob("*.py")]
    lengths = {path.relative_to(TESTS.parent).as_posix(): path.read_text().count("\n") for path in paths}
    assert {} == {name: length for name, length in lengths.items() if length > MOST_LINES}
