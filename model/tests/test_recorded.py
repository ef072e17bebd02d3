"""What is held out, and what is drawn; `cargo xtask train --check` runs it first."""

import csv
import gzip
import tempfile
import unittest
from pathlib import Path

import numpy as np

from paramedic_model import recorded
from paramedic_model.schema import FEATURES

SEED = 1


class Folders(unittest.TestCase):
    def setUp(self) -> None:
        root = tempfile.TemporaryDirectory()
        self.addCleanup(root.cleanup)
        self.root = Path(root.name)

    def folder(self, name: str, episodes: range, kind: str = "stuck") -> Path:
        """Episodes of three rows, the middle one without a label."""
        folder = self.root / name
        folder.mkdir(parents=True)
        columns = ["episode", "kind", "arm", "phase", "label", "since_fault_s", "verdict"]
        with gzip.open(folder / "rows.csv.gz", "wt", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow([*columns, *FEATURES])
            for number, content in enumerate(episodes):
                for at, label in enumerate(["no_action", "", "restart_service"]):
                    row = [number, kind, "no_action", "during", label, at, "no_action"]
                    out.writerow([*row, content, *([at] * (len(FEATURES) - 1))])
        return folder

    def held(self, *folders: Path) -> tuple[list[str], list[str]]:
        """The episodes that are held out: of the shipped folder, and of others."""
        episodes = np.unique(recorded.load(list(folders), SEED).held_out.episode)
        shipped = [e for e in episodes if e.startswith("data/")]
        return shipped, [e for e in episodes if e not in shipped]

    def test_the_shipped_split_is_the_same_whatever_else_is_recorded(self) -> None:
        shipped = self.folder("model/data", range(9))
        alone, _ = self.held(shipped)
        self.assertEqual(alone, ["data/000003", "data/000007"])
        # Folders that are called the same, or sort before it.
        others = [self.folder("2/data", range(20, 31)), self.folder("a", range(40, 47))]
        self.assertEqual(self.held(shipped, *others)[0], alone)

    def test_another_folders_split_is_the_same_when_it_grows(self) -> None:
        shipped = self.folder("model/data", range(9))
        short = self.held(shipped, self.folder("short", range(20, 60)))[1]
        long = self.held(shipped, self.folder("long", range(10, 80)))[1]
        by_content = [{name.split("/")[0] for name in names} for names in (short, long)]
        self.assertTrue(0 < len(short) < 40)
        self.assertLess(by_content[0], by_content[1])

    def test_the_same_rows_twice_are_refused(self) -> None:
        folders = [self.folder("model/data", range(9)), self.folder("copy", range(9))]
        with self.assertRaisesRegex(ValueError, "the same rows"):
            recorded.load(folders, SEED)

    def test_what_is_drawn_is_what_was_recorded(self) -> None:
        data = recorded.load([self.folder("model/data", range(9))], SEED)
        self.assertEqual(len(data.as_recorded), 2 * 3)
        cpu = FEATURES.index("cpu_usage")
        self.assertEqual(sorted(set(data.as_recorded.rows[:, cpu])), [3, 7])
        self.assertEqual(sorted(set(data.undrawn[:, cpu])), [3, 7])
        self.assertEqual(len(data.undrawn), len(data.held_out))


if __name__ == "__main__":
    unittest.main()
