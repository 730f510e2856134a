"""The whole way from a damaged file to what ``occlab doctor`` prints. OCCLAB_MUTATIONS=10000 takes as many; by default 60."""

import builtins
import json
import os
import resource
import subprocess
import time
from contextlib import redirect_stdout
from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_log_hostile import damaged

from occlab.diagnosis.command import doctor
from occlab.diagnosis.finding import CAUSES
from occlab.errors import OcclabError

MUTATIONS = int(os.environ.get("OCCLAB_MUTATIONS", 60))
SLOWEST, MOST_MEMORY = 10.0, 1_000_000  # seconds; kB of this process, torch and all


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    """Whatever a file says, no code of its own and no process comes of it."""

    def refused(*arguments, **options):
        raise AssertionError(f"a log made something run: {arguments}")

    for where, name in ((builtins, "eval"), (os, "system"), (os, "popen"), (subprocess, "Popen")):
        monkeypatch.setattr(where, name, refused)


STATED = st.sampled_from([{}, {"positive_rate": 0.01}, {"positive_rate": 0.02, "loss": "bce+dice", "dice_weight": 0.5}])


@settings(max_examples=MUTATIONS, deadline=None)
@given(damaged(), st.sampled_from(["log", "a.log.json", "metrics.csv", "scalars.json"]), STATED)
def test_a_damaged_log_ends_in_a_report_or_in_one_sentence(tmp_path_factory, data, name, stated):
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(data)
    printed, start = StringIO(), time.process_time()
    try:
        with redirect_stdout(printed):
            code = doctor(path, json=True, **stated)
    except OcclabError as error:
        if not str(error).isprintable():
            pytest.fail(f"not one sentence: {error!r}")
    else:
        report = json.loads(printed.getvalue())
        assert set(report) == {"cause", "findings"}
        assert {f["id"] for f in report["findings"]} == set(CAUSES)
        assert code == int(any(f["verdict"] == "fail" for f in report["findings"]))
    assert time.process_time() - start < SLOWEST
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MOST_MEMORY or MUTATIONS < 1000  # other tests' memory counts
