"""What ``occlab doctor`` does: a log or a folder of logs in, a report as text, JSON or SARIF out."""

import contextlib
import json as json_
from pathlib import Path

from ..errors import OcclabError
from ..files import write_atomically
from .finding import Report, ranked
from .log_doctor import diagnose_log
from .log_doctor.readings import Family
from .logs import TrainingLog, read_log
from .logs.folder import find_runs
from .report import as_sarif, print_report

FRAMES = 8
"""Looked at for the alignment of their clouds."""
RUNS = 60
"""Runs of a folder that are compared with the newest."""
LARGEST = 50_000_000
"""Bytes of a log that is only compared with."""


def doctor(
    path: Path,
    *,
    positive_rate: float | None = None,
    loss: Family | None = None,
    dice_weight: float | None = None,
    pos_weight: float | None = None,
    data: Path | None = None,
    json: bool = False,
    sarif: Path | None = None,
) -> int:
    """Print what a log says; the exit code: 1 where a finding fails, else 0.

    Raises:
        OcclabError: no log there, none that can be read, or numbers out of their range.
    """
    log = read_log(path)
    others = _others(path, log) if path.is_dir() else []
    report = diagnose_log(
        log, positive_rate=positive_rate, loss=loss, dice_weight=dice_weight, pos_weight=pos_weight, others=others
    )
    if data is not None:
        report = _with_clouds(report, data)
    if sarif is not None:
        write_atomically(
            sarif, lambda partial: partial.write_text(json_.dumps(as_sarif(report, log.path), indent=1), encoding="utf-8")
        )
    if json:
        print(report.to_json())
    else:
        print_report(report)
    return int(any(finding.verdict == "fail" for finding in report.findings))


def _with_clouds(report: Report, data: Path) -> Report:
    """The report, with what the frames that were trained on say of their clouds."""
    from ..frames import read_frames
    from .clouds import misaligned_clouds

    found = misaligned_clouds(read_frames(data, limit=FRAMES))
    return ranked([found, *(f for f in report.findings if f.id != found.id)], report.subject, report.curves)


def _others(folder: Path, newest: TrainingLog) -> list[TrainingLog]:
    """The other runs in a folder, those that can be read."""
    found = []
    for run in find_runs(folder)[: RUNS + 1]:
        piece = run.pieces[-1]
        if newest.path in run.pieces or piece.stat().st_size > LARGEST:
            continue
        alone = len(find_runs(piece.parent)) == 1  # then its pieces are read as one
        with contextlib.suppress(OcclabError):
            found.append(read_log(piece.parent if alone else piece))
    return found
