"""A file of rows that is not as the lab writes it: the error names file, line and reason."""

import csv
import gzip
import io
import re
from pathlib import Path

import pytest

from paramedic_model import recorded, rowfile
from paramedic_model.rowfile import COLUMNS, NAME, PATIENT, UNLABELLED
from paramedic_model.schema import FEATURES

GOOD = dict.fromkeys(COLUMNS, "0") | {
    "kind": "stuck",
    "arm": "no_action",
    "phase": "during",
    "label": "restart_service",
    "since_fault_s": "-1.5",
    "health_latency": "0.25",
}


def as_csv(*rows: dict[str, str]) -> str:
    text = io.StringIO(newline="")
    out = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    out.writeheader()
    out.writerows(rows)
    return text.getvalue()


def file_of(folder: Path, text: str | bytes) -> Path:
    path = folder / NAME
    content = text if isinstance(text, bytes) else gzip.compress(text.encode())
    path.write_bytes(content)
    return path


def refusal(folder: Path, text: str | bytes) -> str:
    path = file_of(folder, text)
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        rowfile.read(path)
    return str(caught.value).removeprefix(str(path)).lstrip(", ")


def test_a_good_row_is_read_as_it_is_written(tmp_path: Path) -> None:
    rows = rowfile.read(file_of(tmp_path, as_csv(GOOD, GOOD | {"label": ""})))
    assert [row.label for row in rows] == [2, UNLABELLED]
    assert rows[0].text == GOOD
    assert rows[0].since_fault_s == -1.5
    assert rows[0].features[FEATURES.index("health_latency")] == 0.25
    assert len(rows[0].features) == len(FEATURES)


def test_a_row_may_name_its_service_and_is_the_patients_without_a_name(tmp_path: Path) -> None:
    lines = as_csv(GOOD, GOOD).splitlines()
    named = "\n".join([f"{lines[0]},service", f"{lines[1]},redis", f"{lines[2]},nginx"])
    rows = rowfile.read(file_of(tmp_path, named))
    assert [row.service for row in rows] == ["redis", "nginx"]
    assert rowfile.read(file_of(tmp_path, as_csv(GOOD)))[0].service == PATIENT
    assert "service" in refusal(tmp_path, named.replace("redis", "Red is"))


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    mirrored = "\n".join(",".join(reversed(line.split(","))) for line in as_csv(GOOD).splitlines())
    (row,) = rowfile.read(file_of(tmp_path, mirrored))
    assert row.text == GOOD


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("cpu_usage", "much", "cpu_usage is 'much', which is no finite number"),
        ("cpu_usage", "", "cpu_usage is '', which is no finite number"),
        ("error_count", "nan", "error_count is 'nan', which is no finite number"),
        ("uptime", "-inf", "uptime is '-inf', which is no finite number"),
        ("uptime", "1e39", "uptime is '1e39', which is no finite number"),
        ("since_fault_s", "soon", "since_fault_s is 'soon', which is no finite number"),
        ("label", "evict", "the label 'evict' is not one of no_action, reset_errors"),
        ("label", "No_action", "the label 'No_action' is not one of"),
        ("kind", "../../etc/passwd", "the kind '../../etc/passwd' is no word"),
        ("kind", "<script>", "the kind '<script>' is no word"),
        ("kind", "", "the kind '' is no word"),
        ("episode", "one", "the episode 'one' is no number"),
        ("episode", "-1", "the episode '-1' is no number"),
        ("episode", "٣", "the episode '٣' is no number"),
    ],
)
def test_a_value_that_means_nothing_is_refused(
    tmp_path: Path, column: str, value: str, reason: str
) -> None:
    text = as_csv(GOOD, GOOD | {column: value}, GOOD)
    assert refusal(tmp_path, text).startswith(f"line 3: {reason}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: the head has no column episode"),
        ("a,b\n1,2\n", "line 1: the head has no column episode"),
        (as_csv(GOOD).replace(",memory_usage", ",memory"), "line 1: the head has no column memory"),
        (as_csv(GOOD).replace("\n", ",kind\n", 1), "line 1: the head has the column kind twice"),
        (as_csv(GOOD, GOOD) + "0,stuck\n", "line 4: the row is longer or shorter than the head"),
        (as_csv(GOOD).rstrip() + ",7\n", "line 2: the row is longer or shorter than the head"),
        (as_csv(GOOD) + '"0,stuck\n', "line 3: unexpected end of data"),
        (as_csv(GOOD).encode(), "is not a whole file in gzip: Not a gzipped file"),
        (b"", "line 1: the head has no column episode"),
        (gzip.compress(as_csv(GOOD).encode())[:-20], "is not a whole file in gzip"),
        (gzip.compress(as_csv(GOOD).encode() + b"\xff\n"), "is not text in UTF-8"),
    ],
)
def test_a_file_that_is_no_recording_is_refused(
    tmp_path: Path, text: str | bytes, reason: str
) -> None:
    assert refusal(tmp_path, text).strip().startswith(reason)


def test_rows_without_any_label_teach_nothing(tmp_path: Path) -> None:
    path = file_of(tmp_path, as_csv(GOOD | {"label": ""}))
    with pytest.raises(ValueError, match=re.escape(f"{path} holds no labelled rows")):
        recorded.read(tmp_path, shipped=False)
