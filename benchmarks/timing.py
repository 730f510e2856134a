"""Fair timing of several candidates in one process, the machine they ran on, and the tables that come of it."""

import gc
import json
import os
import platform
import random
import resource
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch


@dataclass
class Candidate:
    """One way to do the work of a table."""

    name: str
    run: Callable[[], Any]
    """Does the work once; what it returns is handed to ``check``."""
    check: Callable[[Any], dict[str, Any]] = field(default=lambda _: {})
    """Extra columns, computed once and outside the timing: how far the result is from the reference."""
    threads: int | None = None
    """Torch's number of threads for this candidate; None: the process's."""
    milliseconds: list[float] = field(default_factory=list)
    columns: dict[str, Any] = field(default_factory=dict)


def interleave(candidates: list[Candidate], seconds: float, *, least: int = 5, most: int = 100, device: str = "cpu") -> None:
    """Time the candidates round by round, in a new random order each round.

    So a machine that slows down for a while slows all of them down, and none always runs behind the one that leaves the
    caches in the best state. Each candidate gets an equal share of the seconds and leaves when it is spent, though not
    before ``least`` rounds; the first candidate, to which the others are compared, stays to the last round.
    """
    default, order = torch.get_num_threads(), random.Random(0)

    def call(candidate: Candidate) -> tuple[float, Any]:
        if candidate.threads:
            torch.set_num_threads(candidate.threads)
        _wait(device)
        began = time.perf_counter()
        result = candidate.run()
        _wait(device)
        took = 1e3 * (time.perf_counter() - began)
        torch.set_num_threads(default)
        return took, result

    for candidate in candidates:  # compiles, allocates, fills caches; not counted
        took, result = call(candidate)
        candidate.columns = candidate.check(result)
        del result
        for _ in range(2 if took < 500 else 0):
            call(candidate)
    share = 1e3 * seconds / len(candidates)
    gc.collect()
    gc.disable()
    try:
        while True:
            enough = all(len(c.milliseconds) >= least for c in candidates)
            done = [len(c.milliseconds) >= least and sum(c.milliseconds) >= share for c in candidates]
            first = candidates[0].milliseconds
            if all(done) or len(first) >= most or (enough and sum(first) >= 3 * share):
                break
            turn = [c for i, c in enumerate(candidates) if i == 0 or not done[i]]
            order.shuffle(turn)
            for candidate in turn:
                candidate.milliseconds.append(call(candidate)[0])
    finally:
        gc.enable()


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def table(title: str, candidates: list[Candidate]) -> dict[str, Any]:
    """The measured rows.

    ``ratio``: its time over the first candidate's, median over the rounds in which both ran; ``min_ratio``: of the
    minima over those rounds.
    """
    first, rows = candidates[0], []
    for c in candidates:
        ratio = median(a / b for a, b in zip(c.milliseconds, first.milliseconds, strict=False))
        rows.append(
            {
                "candidate": c.name,
                "median_ms": median(c.milliseconds),
                "min_ms": min(c.milliseconds),
                "ratio": ratio,
                "min_ratio": min(c.milliseconds) / min(first.milliseconds[: len(c.milliseconds)]),
                "rounds": len(c.milliseconds),
                **c.columns,
            }
        )
    return {"title": title, "rows": rows}


def markdown(results: dict[str, Any]) -> str:
    """The results as a page: the machine, then the tables."""
    machine, load = results["machine"], results["load"]
    lines = [
        f"{machine['device']}; {machine['cores']} cores, {machine['threads']} torch threads; torch {machine['torch']}, "
        f"Python {machine['python']}, {machine['system']}. {results['date']}, {load['seconds']:.0f} s. {_load_text(load)}"
    ]
    lines += [f"Left out: {text}." for text in results["left_out"]]
    for content in results["tables"]:
        heads = list(dict.fromkeys(key for row in content["rows"] for key in row))
        lines += ["", f"**{content['title']}**", ""]
        names = {"median_ms": "median ms", "min_ms": "min ms", "ratio": "× ours", "min_ratio": "× ours (min)"}
        lines.append("| " + " | ".join(names.get(h, h) for h in heads) + " |")
        lines.append("|---|" + "---:|" * (len(heads) - 1))
        for row in content["rows"]:
            lines.append("| " + " | ".join(_cell(row.get(h, "")) for h in heads) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value < 100 else f"{value:.0f}"
    return str(value)


def machine(device: str) -> dict[str, Any]:
    """Where the numbers come from."""
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    return {
        "device": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    facts = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    name = facts.get("model name") or platform.processor() or platform.machine()
    family = f" (family {facts['cpu family']}, model {facts['model']})" if "cpu family" in facts else ""
    return name + family


@contextmanager
def measured_load():
    """Yields a dict that holds, at the end, the share of the processor time that went to other processes meanwhile."""
    load = {"seconds": 0.0, "others": None}
    began, before, own = time.perf_counter(), _busy_seconds(), _own_seconds()
    yield load
    load["seconds"] = time.perf_counter() - began
    if before is not None:
        others = (_busy_seconds() - before) - (_own_seconds() - own)
        load["others"] = max(0.0, others) / (load["seconds"] * os.cpu_count())


def _busy_seconds() -> float | None:
    """Processor seconds used on this machine since it started, and those its host took away."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def _load_text(load: dict[str, Any]) -> str:
    if load["others"] is None:
        return "Load by others unknown on this system."
    verdict = "quiet" if load["others"] < 0.03 else "not quiet: trust the minima and the ratios more than the medians"
    return f"Other processes took {load['others']:.0%} of the processor time ({verdict})."


def results_of(name: str, device: str, work: Callable[[list[str]], list[dict[str, Any]]]) -> dict[str, Any]:
    """Run a benchmark and put its tables beside machine, date and load.

    ``work`` gets a list to which it appends what it had to leave out, and returns tables.
    """
    left_out: list[str] = []
    with measured_load() as load:
        tables = work(left_out)
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    return {"name": name, "date": date, "machine": machine(device), "load": load, "left_out": left_out, "tables": tables}


def write(results: dict[str, Any], folder: Path) -> None:
    """``<name>.json`` and ``<name>.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{results['name']}.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / f"{results['name']}.md").write_text(markdown(results))


def optional(left_out: list[str], what: str, make: Callable[[], list[Candidate]]) -> list[Candidate]:
    """The candidates of a package that may be absent or broken here; the reason goes to ``left_out``."""
    try:
        return make()
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()
        left_out.append(f"{what} ({type(error).__name__}: {reason[0] if reason else 'no reason given'})")
        print(f"left out: {left_out[-1]}", file=sys.stderr)
        return []
