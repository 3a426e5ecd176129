"""Defences that change only what is shown of the target; its weights stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mia_core.defenses.contract import Defense

if TYPE_CHECKING:
    from mia_core.experiment import Experiment, Recommender

OUTPUT_SIDE = (
    "Takes away what attacks read from whole distributions (entropy, Min-K%++); attacks that need only the answer's place "
    "or the likeliest answer remain (our expectation)."
)


@dataclass(frozen=True)
class ServingDefense(Defense):
    """What defences in serving have in common."""

    where: ClassVar[Literal["training", "serving"]] = "serving"


def _served(model: Any, change: Callable[[Any], Any], seed: int) -> Any:
    # torch is loaded with the models, not with a config.
    from mia_core.models.llm.served import ServedModel

    return ServedModel(model, change, seed)


@dataclass(frozen=True)
class Temperature(ServingDefense):
    """Shows softmax(logits / temperature): the order of the answers stays, how sure the model is of them does not.

    Formula: p = softmax(z / T)
    Source: Hinton, Vinyals, Dean 2015, arXiv 1503.02531 (temperature); Shokri et al. 2017, arXiv 1610.05820 (as a defence).
    Fails: The order of the answers stays; whoever knows T undoes it.
    """

    temperature: float = 2.0
    """Above 1 makes all answers look more alike, below 1 less."""
    name: ClassVar[str] = "temperature"
    title: ClassVar[str] = "Served at a temperature"
    summary: ClassVar[str] = "Shows probabilities that are flatter, or sharper, than the model's own."
    expected: ClassVar[str] = (
        "Little against whoever knows of it and fits the attack to it, for nothing is lost that cannot be undone (our "
        "expectation)."
    )
    source: ClassVar[str] = "Shokri et al. 2017, arXiv 1610.05820"

    def __post_init__(self) -> None:
        allowed = "it must lie between 0.01 and 100 and not be 1, which changes nothing"
        self.require("temperature", 0.01 <= self.temperature <= 100 and self.temperature != 1, allowed)

    def served(self, model: Any, seed: int) -> Any:
        """The model with its logits divided by the temperature."""
        return _served(model, lambda logits: logits / self.temperature, seed)


@dataclass(frozen=True)
class Rounding(ServingDefense):
    """Shows probabilities with few decimals.

    Formula: p = round(p, d), the rest shared evenly by what rounded to 0
    Source: Shokri et al. 2017, arXiv 1610.05820 (coarsened prediction vectors).
    Differs: tokens that round to 0 share what is left over evenly, so that a likelihood of the answer exists.
    Fails: The likeliest answers and their order remain, and these are enough for attacks on lists.
    """

    digits: int = 2
    """Decimals that are shown."""
    name: ClassVar[str] = "rounding"
    title: ClassVar[str] = "Rounded probabilities"
    summary: ClassVar[str] = "Shows probabilities with only a few decimals."
    expected: ClassVar[str] = OUTPUT_SIDE
    source: ClassVar[str] = "Shokri et al. 2017, arXiv 1610.05820"

    def __post_init__(self) -> None:
        self.require("digits", 1 <= self.digits <= 6, "it must lie between 1 and 6, all that single precision holds")

    def served(self, model: Any, seed: int) -> Any:
        """The model with rounded probabilities."""
        from mia_core.models.llm.served import rounded

        return _served(model, lambda logits: rounded(logits, self.digits), seed)


@dataclass(frozen=True)
class TopK(ServingDefense):
    """Shows the probabilities of the likeliest tokens alone.

    Formula: p_v = p_v for the k likeliest, else an even share of the rest
    Source: Shokri et al. 2017, arXiv 1610.05820 (prediction vector restricted to the top k classes).
    Differs: the other tokens share the rest evenly, so that a likelihood of the answer exists.
    Fails: What is likeliest is just what a model has learned best: attacks on the top answers lose nothing.
    """

    k: int = 5
    """Tokens whose probability is shown."""
    name: ClassVar[str] = "top_k"
    title: ClassVar[str] = "Top answers only"
    summary: ClassVar[str] = "Shows the probabilities of the likeliest answers alone."
    expected: ClassVar[str] = OUTPUT_SIDE
    source: ClassVar[str] = "Shokri et al. 2017, arXiv 1610.05820"

    def __post_init__(self) -> None:
        self.require("k", self.k >= 1, "it must be at least 1")

    def served(self, model: Any, seed: int) -> Any:
        """The model with its likeliest answers alone.

        Raises:
            ConfigError: it has no more answers than that.
        """
        from mia_core.models.llm.served import only_top

        answers = model.plain_network.config.vocab_size
        self.require("k", self.k < answers, f"the model tells {answers} probabilities, so none is hidden; give fewer")
        return _served(model, lambda logits: only_top(logits, self.k), seed)


@dataclass(frozen=True)
class OutputNoise(ServingDefense):
    """Bends the probabilities so that unlikely answers look likelier than they are, and their order is turned round.

    The likeliest answer stays the likeliest; the same question always gets the same answer.

    Formula: log p bent by a reversed sigmoid of itself with strength beta, the likeliest answer kept
    Source: Lee, Edwards, Molloy, Su 2018, arXiv 1806.00054 (reverse sigmoid).
    Differs: made against model stealing, tried here against membership inference; beta is shared among all tokens, see
    `reverse_sigmoid`.
    Fails: The same question gets the same answer, so that an attack fitted to bent answers learns to read them.
    """

    beta: float = 0.5
    """How much probability is put where it does not belong, against 1 that does."""
    gamma: float = 0.2
    """How steeply the bend follows the model's own certainty."""
    name: ClassVar[str] = "output_noise"
    title: ClassVar[str] = "Deceptive probabilities"
    summary: ClassVar[str] = (
        "Bends the shown probabilities so that unlikely answers mislead; the best answer stays the best."
    )
    expected: ClassVar[str] = (
        "Made against copying a model. Attacks that read the likeliest answers remain, and whoever fits the attack to "
        "bent probabilities loses little (our expectation)."
    )
    source: ClassVar[str] = "Lee et al. 2018, arXiv 1806.00054"

    def __post_init__(self) -> None:
        self.require(
            "beta", 0 < self.beta <= 1, "it must be above 0 and at most 1, beyond which the best answer is lost"
        )
        self.require("gamma", 0 < self.gamma < 1, "it must lie between 0 and 1, such as 0.2")

    def served(self, model: Any, seed: int) -> Any:
        """The model with bent probabilities."""
        from mia_core.models.llm.served import reverse_sigmoid

        return _served(model, lambda logits: reverse_sigmoid(logits, self.beta, self.gamma), seed)


@dataclass(frozen=True)
class PopularityRandomisation(ServingDefense):
    """Draws each list at random from more items than it holds, still best first.

    Formula: list = n items drawn from the best N for the person, best first
    Source: Zhang et al., CCS 2021, arXiv 2109.08045.
    Differs: everybody's lists are drawn so, and from the best items for them; there, lists of non-members alone, from the
    most popular items.
    Fails: With one recommender for everybody nothing in it depends on who was trained on; recommendations get worse.
    """

    candidates: int = 300
    """Best items that a list is drawn from."""
    name: ClassVar[str] = "popularity_randomisation"
    title: ClassVar[str] = "Randomised lists"
    summary: ClassVar[str] = "Draws each list at random from more items than it holds."
    expected: ClassVar[str] = (
        "Undoes how members and others were served differently in published experiments; nothing where one recommender "
        "serves everybody (measured in the literature)."
    )
    source: ClassVar[str] = "Zhang et al. 2021, arXiv 2109.08045"
    kinds: ClassVar[tuple[str, ...]] = ("recommender",)

    def __post_init__(self) -> None:
        self.require("candidates", 2 <= self.candidates <= 1_000_000, "it must lie between 2 and 1,000,000")

    def refusal(self, experiment: Experiment) -> str:
        """Also refused where a list is as long, or is randomised already."""
        if refused := super().refusal(experiment):
            return refused
        recommender = experiment.recommender
        if recommender.candidates:
            return f"recommender.candidates is {recommender.candidates} already; set it to 0 there"
        if self.candidates <= recommender.length:
            return (
                f"{self.name}.candidates is {self.candidates} and recommender.length {recommender.length}; give more "
                "candidates than a list holds"
            )
        return ""

    def lists(self, recommender: Recommender) -> Recommender:
        """With so many candidates."""
        return recommender.model_copy(update={"candidates": self.candidates})


@dataclass(frozen=True)
class ListShuffle(ServingDefense):
    """Serves each list in an order drawn at random: the same list to the same history, so that asking twice tells nothing.

    Formula: list = a random order of the same items, the same for the same history
    Relations: attacks that read a list as a set see no difference.
    Source: studied beside popularity randomisation, Zhang et al., CCS 2021, arXiv 2109.08045.
    Fails: Attacks that read a list as a set see no difference.
    """

    name: ClassVar[str] = "list_shuffle"
    title: ClassVar[str] = "Shuffled lists"
    summary: ClassVar[str] = "Serves each list in random order."
    expected: ClassVar[str] = (
        "None against attacks that look at which items a list holds; those that weigh items by their place lose a little "
        "(our expectation)."
    )
    source: ClassVar[str] = "Compare Zhang et al. 2021, arXiv 2109.08045"
    kinds: ClassVar[tuple[str, ...]] = ("recommender",)

    def refusal(self, experiment: Experiment) -> str:
        """Also refused where lists are shuffled already."""
        already = (
            "recommender.shuffled is true already; set it to false there" if experiment.recommender.shuffled else ""
        )
        return super().refusal(experiment) or already

    def lists(self, recommender: Recommender) -> Recommender:
        """With shuffled lists."""
        return recommender.model_copy(update={"shuffled": True})
