"""A drawing for each kind of fault: what the agent saw over time, and when the model decided.

By hand, since a plotting library would be the largest of the training libraries.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from paramedic_model import lab_report
from paramedic_model.brain import Brain
from paramedic_model.recorded import Recorded
from paramedic_model.schema import CLASSES, FEATURES

WIDTH: Final = 720
HEIGHT: Final = 300
LEFT: Final = 40
RIGHT: Final = 210
TOP: Final = 28
BOTTOM: Final = 30
SHOWN: Final = 6
# Told apart by people who see red and green alike (Okabe and Ito).
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
VERDICTS: Final = {1: "#e69f00", 2: "#d55e00"}
NOT_DRAWN: Final = ("uptime", "hour_of_day")


def draw_all(brain: Brain, data: Recorded) -> Iterator[tuple[str, str]]:
    for kind in np.unique(data.kind):
        mine = (data.kind == kind) & (data.arm == "no_action")
        first = np.unique(data.episode[mine])[0]
        episode = data.where(mine & (data.episode == first))
        order = np.argsort(episode.since_fault_s)
        yield str(kind), draw(str(kind), brain, episode.where(order))


def draw(kind: str, brain: Brain, episode: Recorded) -> str:
    time = episode.since_fault_s
    p = brain.calibrated(episode.rows)
    begin, end = float(time.min()), float(time.max())

    def x(t: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (t - begin) / max(end - begin, 1e-9)

    def y(share: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'font-family="sans-serif" font-size="11">'
        ),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        (
            f'<text x="{LEFT}" y="16" font-size="13">{kind}, {episode.episode[0]}: each feature '
            "as a share of its largest value here</text>"
        ),
        f'<path d="M{LEFT} {y(1):.1f}V{y(0):.1f}H{WIDTH - RIGHT}" fill="none" stroke="#888"/>',
    ]
    parts.extend(
        f'<text x="{x(t):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{t} s</text>'
        for t in range(int(np.ceil(begin / 5)) * 5, int(end) + 1, 5)
    )
    if begin < 0 < end:
        parts.append(
            f'<path d="M{x(0):.1f} {y(0):.1f}V{y(1):.1f}" stroke="#000" stroke-dasharray="4 3"/>'
            f'<text x="{x(0) + 3:.1f}" y="{TOP + 8}">fault</text>'
        )
    for i, (name, values) in enumerate(telling(episode)):
        most = float(values.max())
        points = " ".join(
            f"{x(t):.1f},{y(v / most):.1f}" for t, v in zip(time, values, strict=True)
        )
        colour = COLOURS[i]
        line = f'stroke="{colour}" stroke-width="1.5"'
        parts.append(f'<polyline points="{points}" fill="none" {line}/>')
        label = f"{name}, to {most:.3g}"
        parts.append(
            f'<text x="{WIDTH - RIGHT + 12}" y="{TOP + 14 + 16 * i}" fill="{colour}">{label}</text>'
        )
    acted = lab_report.needs_a_remedy(p)
    for t, said in zip(time[acted], p.argmax(axis=1)[acted], strict=True):
        at = f'cx="{x(t):.1f}" cy="{y(0):.1f}"'
        parts.append(f'<circle {at} r="3.5" fill="{VERDICTS[int(said)]}"/>')
    for i, (said, colour) in enumerate(VERDICTS.items()):
        base = HEIGHT - BOTTOM - 20 + 16 * i
        parts.append(
            f'<circle cx="{WIDTH - RIGHT + 16}" cy="{base - 4}" r="3.5" fill="{colour}"/>'
            f'<text x="{WIDTH - RIGHT + 24}" y="{base}">decides {CLASSES[said]}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def telling(episode: Recorded) -> list[tuple[str, np.ndarray]]:
    """The columns that move most, against their own largest value."""
    moves = []
    for i, name in enumerate(FEATURES):
        values = episode.rows[:, i].astype(np.float64)
        if name not in NOT_DRAWN and values.max() > 0:
            moves.append((values.std() / values.max(), name, values))
    moves.sort(key=lambda move: -move[0])
    return [(name, values) for _, name, values in moves[:SHOWN]]
