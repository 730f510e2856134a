"""SARIF 2.1.0: the structure that the standard asks for, and what a code host reads from it.

The whole schema of the standard is too large to keep here; the part of it that is written is transcribed below from
https://docs.oasis-open.org/sarif/sarif/v2.1.0/, closed to anything else.
"""

import json
import math
from pathlib import Path
from urllib.parse import unquote

import pytest
from jsonschema import Draft7Validator

from occlab import __version__
from occlab.diagnosis.finding import CAUSES, Experiment, Finding, Report, ranked
from occlab.diagnosis.report.sarif import RULES, as_sarif


def part(required, **properties):
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


TEXT = {"type": "string", "minLength": 1}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
MESSAGE = part(["text"], text=TEXT, markdown=TEXT)
RULE = part(
    ["id"],
    id=TEXT,
    name=TEXT,
    shortDescription=MESSAGE,
    help=MESSAGE,
    defaultConfiguration=part([], level=LEVEL),
)
ARTIFACT = part([], uri={"type": "string", "minLength": 1, "format": "uri-reference"})
PHYSICAL = part(["artifactLocation"], artifactLocation=ARTIFACT, region=part([], startLine={"type": "integer", "minimum": 1}))
LOCATION = part(
    [], physicalLocation=PHYSICAL, logicalLocations={"type": "array", "items": part([], name=TEXT), "uniqueItems": True}
)
RESULT = part(
    ["message"],
    ruleId=TEXT,
    ruleIndex={"type": "integer", "minimum": 0},
    level=LEVEL,
    message=MESSAGE,
    locations={"type": "array", "items": LOCATION},
    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
    properties={"type": "object"},
)
DRIVER = part(["name"], name=TEXT, version=TEXT, rules={"type": "array", "items": RULE, "uniqueItems": True})
RUN = part(
    ["tool"],
    tool=part(["driver"], driver=DRIVER),
    results={"type": "array", "items": RESULT},
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    properties={"type": "object"},
)
SARIF = part(
    ["version", "runs"],
    **{"$schema": {"type": "string", "format": "uri"}, "version": {"const": "2.1.0"}, "runs": {"type": "array", "items": RUN}},
)


def report():
    experiment = Experiment("Drop the ReLU", "loss after 50 steps", 0.92, 1.08)
    evidence = {"lowest": 0.5, "bad": math.nan, "readings": [{"loss": 1.19}], "many": 10**400}
    title, fix = "p >= 0.5; see [here](https://x.example)", "a = 1\n```\nb"
    findings = [
        Finding("clipping", "note", "94 % of the norms are clipped."),
        Finding("bounded-output", "fail", title, evidence, "p < 0.5 is out", fix, experiment),
        Finding("low-skill", "warn", ""),
        Finding("class-map", "pass", "Classes fit."),
        Finding("schedule", "not-measurable", "No scheduler was given."),
    ]
    return ranked(findings, "run.log.json")


def written(report, path=None):
    sarif = json.loads(json.dumps(as_sarif(report, path), allow_nan=False))
    Draft7Validator(SARIF).validate(sarif)
    return sarif["runs"][0]


def test_what_alarms_becomes_a_result_with_its_level_and_its_rule():
    run = written(report())
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["version"] == __version__
    assert [(r["ruleId"], r["level"]) for r in run["results"]] == [
        ("bounded-output", "error"), ("low-skill", "warning"), ("clipping", "note"),
    ]  # fmt: skip
    for result in run["results"]:
        rule = rules[result["ruleIndex"]]
        assert rule["id"] == result["ruleId"]
        assert rule["shortDescription"]["text"] == RULES[rule["id"]]
        assert rule["help"]["text"]
    assert rules[0]["name"] == "BoundedOutput"
    assert [r["properties"]["rootCause"] for r in run["results"]] == [True, False, False]
    assert run["results"][0]["properties"]["nextExperiment"].endswith("between 0.92 and 1.08.")
    assert run["results"][0]["properties"]["evidence"]["lowest"] == 0.5


def test_what_passed_or_was_not_measured_raises_no_alarm():
    properties = written(report())["properties"]
    assert properties["cause"] == "bounded-output"
    assert properties["passed"] == ["class-map"]
    assert properties["notMeasurable"] == {"schedule": "No scheduler was given"}
    assert written(Report((), "Net"))["results"] == []


def test_texts_hold_no_links_and_code_stays_in_its_fence():
    run = written(report())
    assert "](" not in run["results"][0]["message"]["text"]
    markdown = run["tool"]["driver"]["rules"][0]["help"]["markdown"]
    assert markdown == "p &lt; 0.5 is out\n\n````python\na = 1\n```\nb\n````"


@pytest.mark.parametrize("name", ["run.log", "a folder/ü#1?.log"])
def test_a_log_is_located_relative_to_the_working_directory_or_by_its_address(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (Path(name), tmp_path / name):
        location = written(report(), path)["results"][0]["locations"][0]["physicalLocation"]
        uri = location["artifactLocation"]["uri"]
        assert unquote(uri) == name
        assert not set(uri) & set(" ?#ü")
    elsewhere = written(report(), tmp_path.parent / "x.log")["results"][0]["locations"][0]
    assert elsewhere["physicalLocation"]["artifactLocation"]["uri"] == (tmp_path.parent / "x.log").as_uri()
    assert "physicalLocation" not in written(report())["results"][0]["locations"][0]


def test_the_same_finding_has_the_same_fingerprint_whatever_its_numbers():
    def fingerprint(title, id="low-skill", path=None):
        return written(ranked([Finding(id, "fail", title)], "Net"), path)["results"][0]["partialFingerprints"]

    assert fingerprint("0.1") == fingerprint("0.2")
    assert fingerprint("0.1") != fingerprint("0.1", id="spikes")
    assert fingerprint("0.1") != fingerprint("0.1", path=Path("a.log"))


def test_every_check_is_described():
    assert set(RULES) == set(CAUSES)
    assert all(text.endswith(".") and len(text) <= 120 for text in RULES.values())
