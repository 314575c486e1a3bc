"""One condition of the gate, and the verdict of all."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Condition:
    """One condition with its numbers and a sentence that a person understands."""

    name: str
    passed: bool
    sentence: str
    numbers: dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """All conditions; the candidate passes only if all of them hold."""

    conditions: tuple[Condition, ...]

    @property
    def passed(self) -> bool:
        return all(condition.passed for condition in self.conditions)

    @property
    def sentence(self) -> str:
        """Why it was refused, or that it passed."""
        refused = [condition.sentence for condition in self.conditions if not condition.passed]
        return "passed" if not refused else "refused: " + "; ".join(refused)

    def as_json(self) -> dict[str, Any]:
        """For gate.json."""
        rows = [asdict(condition) for condition in self.conditions]
        return {"passed": self.passed, "sentence": self.sentence, "conditions": rows}
