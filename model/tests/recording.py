"""Recordings that a test makes for itself."""

import csv
import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from paramedic_model.rowfile import COLUMNS, NAME


class Record(Protocol):
    def __call__(self, name: str, episodes: range, *, old: bool = False) -> Path:
        """Takes the name of a folder and its episodes, each with its own content; an `old` one is
        from before the columns of version 2."""


def write_rows(
    folder: Path, lines: Iterable[Iterable[object]], columns: int = len(COLUMNS)
) -> Path:
    """Writes the first columns of these lines."""
    folder.mkdir(parents=True)
    with gzip.open(folder / NAME, "wt", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(list(line)[:columns] for line in [COLUMNS, *lines])
    return folder
