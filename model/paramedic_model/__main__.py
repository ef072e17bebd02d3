"""Trains the shipped model; `cargo xtask train` runs it with its pinned libraries.

It writes nothing unless every check holds: see `checks.py`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from paramedic_model.checks import CheckFailed
from paramedic_model.recorded import Recordings
from paramedic_model.train import KIND, KINDS, Order, train

# The folder of the repository that holds this package, the recorded episodes and what is written.
HOME: Final = Path(__file__).resolve().parents[1]
# The first is the oldest.
DATA: Final = ("data", "data/silence", "data/strangers")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m paramedic_model", description=__doc__)
    parser.add_argument("--out", type=Path, default=HOME, help="folder for the files written")
    parser.add_argument("--against", type=Path, help="folder whose golden rows must be repeated")
    parser.add_argument("--recorded", type=Path, action="append", default=[], help="more episodes")
    parser.add_argument("--old", type=Path, help="a model to be no worse than")
    parser.add_argument("--kind", choices=KINDS, default=KIND, help="what to train")
    parser.add_argument("--compare", action="store_true", help="also train the other kind")
    parser.add_argument("--force", action="store_true", help="write it even if it is worse")
    args = parser.parse_args(arguments)
    recordings = Recordings([HOME / folder for folder in DATA], args.recorded)
    order = Order(args.out, recordings, args.against, args.old, args.kind, args.compare, args.force)
    try:
        train(order)
    except (CheckFailed, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
