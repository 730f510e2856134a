"""Findings, their order, and a report as data."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occlab import OcclabError
from occlab.diagnosis.finding import CAUSES, VERDICTS, Experiment, Finding, Trial, ranked

FINDINGS = st.lists(st.builds(Finding, st.sampled_from(CAUSES), st.sampled_from(VERDICTS), st.text(max_size=20)), max_size=12)


@given(FINDINGS)
@settings(max_examples=50, deadline=None)
def test_failing_comes_before_warning_and_causes_before_consequences(findings):
    report = ranked(findings, "a network")
    keys = [(VERDICTS.index(f.verdict), CAUSES.index(f.id)) for f in report.findings]
    assert keys == sorted(keys)
    assert len(report.findings) == len(findings)
    alarming = [f for f in findings if f.verdict in ("fail", "warn")]
    assert (report.cause is None) == (not alarming)
    assert len(report.consequences) == max(0, len(alarming) - 1)
    assert set(json.loads(report.to_json())) == {"cause", "findings"}


def test_a_finding_as_json_has_the_seven_keys_and_no_number_that_json_lacks():
    experiment = Experiment("Drop the ReLU", "loss", 0.1, 0.9)
    finding = Finding("bounded-output", "fail", "no", {"lowest": math.nan, "range": [0.5, math.inf]}, "why", "fix", experiment)
    read = json.loads(ranked([finding], "x").to_json())["findings"][0]
    assert set(read) == {"id", "verdict", "title", "evidence", "why", "fix", "next_experiment"}
    assert read["evidence"] == {"lowest": None, "range": [0.5, None]}
    assert read["next_experiment"] == "Drop the ReLU: loss should come out between 0.1 and 0.9."


def test_an_unknown_check_is_refused():
    with pytest.raises(OcclabError, match="unknown check"):
        Finding("output-bounded", "fail", "")


def test_a_prediction_holds_within_its_bounds_only():
    experiment = Experiment("Do", "x", 0.0, 1.0)
    assert Trial(experiment, 2.0, 0.5).held
    assert not Trial(experiment, 2.0, 1.5).held
    assert "did not hold" in str(Trial(experiment, 2.0, 1.5))


def test_the_first_experiment_that_can_be_run_is_run():
    without = Finding("clipping", "fail", "", next_experiment=Experiment("a", "x", 0, 1))
    runnable = Finding("schedule", "warn", "", next_experiment=Experiment("b", "x", 0, 1, lambda: (3.0, 0.25)))
    trial = ranked([runnable, without], "x").try_next()
    assert (trial.experiment.change, trial.without, trial.measured, trial.held) == ("b", 3.0, 0.25, True)
    with pytest.raises(OcclabError, match="no experiment to run"):
        ranked([without], "x").try_next()
