"""Both kinds of model on the same held-out episodes, and why which one ships."""

from dataclasses import dataclass

from paramedic_model.brain import Brain
from paramedic_model.lab_report import GATE, SCORES, Judged
from paramedic_model.recorded import Recorded
from paramedic_model.report import table
from paramedic_model.schema import RESTART_SERVICE


@dataclass(frozen=True)
class Contender:
    """One kind: what it is, what it says of the held-out rows, and whether it may ship."""

    kind: str
    what: str
    nodes: int
    size: int
    judged: Judged
    failed: str = ""
    """The check that it does not pass, if there is one."""

    @classmethod
    def of(
        cls, kind: str, brain: Brain, model: bytes, held_out: Recorded, failed: str = ""
    ) -> "Contender":
        judged = Judged.of(brain.calibrated(held_out.rows), held_out)
        nodes = brain.trees.node_count()
        return cls(kind, brain.trees.describe(), nodes, len(model), judged, failed)


@dataclass(frozen=True)
class Contest:
    """The kind that ships, against the other."""

    held_out: Recorded
    shipped: Contender
    other: Contender

    def restarts(self, who: Contender) -> tuple[float, float]:
        return who.judged.at_the_gate(self.held_out, RESTART_SERVICE)

    def other_is_better(self, tolerance: float) -> bool:
        """It passes every check, its verdicts are better, and no fewer of its restarts are right:
        a wrong restart is worse than a remedy that was not tried."""
        better = self.other.judged.f1 > self.shipped.judged.f1 + tolerance
        safe = self.restarts(self.other)[0] >= self.restarts(self.shipped)[0] - tolerance
        return better and safe and not self.other.failed

    def summary(self) -> str:
        labels = self.held_out.labels
        lines = []
        for who in (self.shipped, self.other):
            precision, recall = self.restarts(who)
            restarts = [f"{precision:.3f}", f"{recall:.3f}"]
            size = [f"{who.nodes:,}", f"{who.size:,}"]
            lines.append([who.kind, *who.judged.scores(labels), *restarts, *size])
        restarts = ["restarts right", "restarts found"]
        return table(["kind", *SCORES, *restarts, "nodes", "bytes"], lines)

    def reasons(self) -> str:
        """Why the kind that ships does."""
        mine, its = self.shipped.judged.f1, self.other.judged.f1
        right, its_right = self.restarts(self.shipped)[0], self.restarts(self.other)[0]
        told = [
            f"its macro-F1 is {mine:.3f} against {its:.3f}",
            f"at the gate {right:.1%} of its restarts are right against {its_right:.1%}",
        ]
        if self.other.failed:
            told.append(f"the other kind fails a check ({self.other.failed})")
        return f"`{self.shipped.kind}` ships: {', '.join(told[:-1])}, and {told[-1]}."

    def report(self) -> str:
        return f"""### Both kinds
`forest` is a random forest, `boosted` are boosted trees; here {self.shipped.what}, against \
{self.other.what}.
Both learnt the same rows and are judged on the same held-out episodes. Restarts are those at or \
above the gate of {GATE}.

{self.summary()}

{self.reasons()} The other kind would ship, and training would refuse this one, if it passed every \
check, its
macro-F1 were higher by more than what counts as noise, and no smaller share of its restarts were \
right."""
