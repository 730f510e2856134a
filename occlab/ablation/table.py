"""The tidy table of results: a row a run, a column a measure."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import OcclabError


def by_arm(rows: Iterable[Mapping[str, Any]], measure: str) -> dict[str, dict[int, float | None]]:
    """One measure of a tidy table, a row a run with columns ``arm`` and ``seed``: arm -> seed -> number.

    A pandas DataFrame gives such rows with ``frame.to_dict("records")``.

    Raises:
        OcclabError: a column is missing, or one arm has two rows of a seed.
    """
    table: dict[str, dict[int, float | None]] = {}
    for row in rows:
        if missing := {"arm", "seed", measure} - set(row):
            raise OcclabError(f"the table has no column {min(missing)!r}; it has {', '.join(map(str, row))}")
        seeds = table.setdefault(str(row["arm"]), {})
        if row["seed"] in seeds:
            raise OcclabError(f"the table has two rows of arm {row['arm']!r} with seed {row['seed']}")
        seeds[int(row["seed"])] = row[measure]
    return table
