"""Recordings that a test makes for itself."""

import csv
import gzip
from collections.abc import Callable, Iterable
from pathlib import Path

from paramedic_model.rowfile import COLUMNS, NAME

# Takes the name of a folder and its episodes, each with its own content.
Record = Callable[[str, range], Path]


def write_rows(folder: Path, lines: Iterable[Iterable[object]]) -> Path:
    folder.mkdir(parents=True)
    with gzip.open(folder / NAME, "wt", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *lines])
    return folder
