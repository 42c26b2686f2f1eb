"""Search spaces made of decisions: list what an architecture decides, and write how to build it.

Sampling, texts, encodings, neighbours and a relaxation follow from the list::

    @dataclass(frozen=True)
    class Widths(ChoiceSpace):
        image: int = 32
        name: ClassVar[str] = "widths"
        decisions = (Ordinal("width", (16, 32, 48)), Choice("kernel", (3, 5)))

        def build(self, choices: Choices) -> nn.Module:
            return nn.Sequential(nn.Conv2d(3, choices["width"], choices["kernel"]), ...)
"""

from latbench.spaces.choices.decision import Choice, Decision, Ordinal
from latbench.spaces.choices.layout import Choices
from latbench.spaces.choices.space import ChoiceSpace

__all__ = ["Choice", "ChoiceSpace", "Choices", "Decision", "Ordinal"]
