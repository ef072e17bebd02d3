"""Tests of the package; `cargo xtask test` runs them, and `python -m pytest` in `model/`."""
