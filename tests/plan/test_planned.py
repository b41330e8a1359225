"""isplit.plan.planned: the split that `--cut planned` stands for, and what is said where there is none."""

import pytest

from isplit.errors import InputError, StudyError
from isplit.plan.planned import planned_split
from isplit.plan.planner import plan
from tests.plan.conftest import plain_link


@pytest.fixture
def save_plan(study, board, cloud):
    """Save a plan of the study whose answer is changed as given."""

    def save(**changes):
        record = plan(study, device=board, link=plain_link(), server=cloud)
        answer = record.answer.model_copy(update=changes)
        record.model_copy(update={"answer": answer}).save(study)
        return record

    return save


def test_the_chosen_split(study, save_plan):
    """The cut and the budget of the placement that the plan chose."""
    record = save_plan()
    split = next(placement for placement in record.placements if placement.kind == "split")
    save_plan(chosen=split.name, train=None)
    assert (split.cut, split.budget) == planned_split(study)
    assert (split.cut, split.budget) == planned_split(study, to_train=True)


def test_no_plan(study):
    """The message says which command makes a plan."""
    with pytest.raises(StudyError, match="isplit plan"):
        planned_split(study)


@pytest.mark.parametrize(("chosen", "says"), [(None, "chose nothing"), ("local", "'local', which is no split")])
def test_no_split(study, save_plan, chosen, says):
    """A plan that chose nothing, or no split, stands for no split."""
    save_plan(chosen=chosen)
    with pytest.raises(InputError, match=says):
        planned_split(study)
