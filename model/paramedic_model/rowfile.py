"""The file of recorded rows, read with suspicion: an error names its file and its line."""

import csv
import gzip
import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from paramedic_model.schema import ADDED, CLASSES, FEATURES

NAME: Final = "rows.csv.gz"
COLUMNS: Final = ("episode", "kind", "arm", "phase", "label", "since_fault_s", *FEATURES)
# What a column has where it was not recorded: the value of a healthy service.
NEUTRAL: Final = "0"
# Whose rows these are, if there is no column `service`.
PATIENT: Final = "patient_app"
# A row that teaches nothing: the fault could not be seen yet, or no longer.
UNLABELLED: Final = -1
LABELS: Final = {"": UNLABELLED} | {name: i for i, name in enumerate(CLASSES)}
# A kind names a plot's file and stands in it; a service names a line of the report.
KIND: Final = re.compile("[a-z][a-z0-9_]*")
SERVICE: Final = re.compile("[a-z][a-z0-9_-]*")
EPISODE: Final = re.compile("[0-9]{1,9}")
LARGEST: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Row:
    """One line of the file."""

    text: dict[str, str]
    """As it was written, by column."""
    label: int
    since_fault_s: float
    features: list[float]
    """In schema order."""
    service: str
    """The watched program."""
    lacks: bool
    """Whether it is from before the columns that were added; they are neutral."""


def read(path: Path) -> list[Row]:
    """All rows of a file, or a `ValueError`: half a file would teach something else."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            return read_csv(path, csv.DictReader(file, strict=True))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole file in gzip: {error}") from error


def read_csv(path: Path, table: "csv.DictReader[str]") -> list[Row]:
    try:
        lacks = check_head(table.fieldnames or ())
        return [parse(row, lacks=lacks) for row in table]
    except UnicodeDecodeError as error:
        # Text is decoded far ahead of the line that is being read.
        raise ValueError(f"{path} is not text in UTF-8: {error}") from error
    except (csv.Error, ValueError) as error:
        # The table's own number lags behind where a line has no end.
        line = max(table.reader.line_num, 1)
        raise ValueError(f"{path}, line {line}: {error}") from error


def check_head(names: Sequence[str]) -> bool:
    """Whether it is of a recording before the columns that were added."""
    lacks = not any(name in names for name in ADDED)
    missing = [name for name in COLUMNS if name not in names and not (lacks and name in ADDED)]
    if missing:
        raise ValueError(f"the head has no column {missing[0]}; is this of `cargo xtask lab`?")
    twice = [name for name in COLUMNS if names.count(name) > 1]
    if twice:
        raise ValueError(f"the head has the column {twice[0]} twice")
    return lacks


def parse(fields: dict[Any, Any], *, lacks: bool) -> Row:
    # `DictReader` files what is too much under None, and fills up with None.
    if None in fields or None in fields.values():
        raise ValueError("the row is longer or shorter than the head")
    text: dict[str, str] = dict.fromkeys(ADDED, NEUTRAL) | fields if lacks else fields
    if not EPISODE.fullmatch(text["episode"]):
        raise ValueError(f"the episode {text['episode']!r} is no number")
    if not KIND.fullmatch(text["kind"]):
        raise ValueError(f"the kind {text['kind']!r} is no word of small letters")
    if text["label"] not in LABELS:
        raise ValueError(f"the label {text['label']!r} is not one of {', '.join(CLASSES)}")
    features = [number(name, text[name]) for name in FEATURES]
    since = number("since_fault_s", text["since_fault_s"])
    service = text.get("service", PATIENT)
    if not SERVICE.fullmatch(service):
        raise ValueError(f"the service {service!r} is no word of small letters")
    return Row(text, LABELS[text["label"]], since, features, service, lacks)


def number(name: str, text: str) -> float:
    """A value that is still a number in the precision in which the agent asks."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    # NaN compares as false.
    if not abs(value) <= LARGEST:
        raise ValueError(f"{name} is {text!r}, which is no finite number")
    return value
