"""The forest that decides in the agent: how it is trained, checked, exported and reported.

`python -m paramedic_model` trains it. `cargo xtask train` runs that with pinned libraries.
"""
