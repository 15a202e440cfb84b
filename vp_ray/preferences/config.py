"""Settings of the preferences stage: how ratings, rankings and choices become pairs with probabilities."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, field_validator, model_validator

from vp_ray.config import Settings

EQUAL_WEIGHTS: Final = {"prompt_following": 1.0, "aesthetic": 1.0, "fidelity": 1.0, "harmlessness": 1.0}


class CheckSettings(Settings):
    """What is checked before a data set is published; the findings are in `quality.json` and on the report."""

    near_duplicate: float = Field(0.8, gt=0, lt=1)
    """Prompts are near-duplicates when their sets of five successive characters have this Jaccard similarity."""
    split_by: Literal["prompts", "clusters"] = "prompts"
    """`clusters` moves near-duplicate prompts into one split, that of the first by id, so that none leaks; `prompts`
    leaves the splits alone and counts what leaks. A grammar such as the embedded world's is all near-duplicates."""
    test_prompts: dict[str, str] = Field({})
    """Public lists of test prompts, a file or a folder of text files by name (text, JSON, JSON lines, CSV, TSV)."""
    on_overlap: Literal["report", "remove"] = "report"
    """What becomes of pairs whose prompt, or a near-duplicate of it, is on one of these lists."""
    predictor_prompts: int = Field(500, ge=0)
    """Prompts, by hash, whose images are read to see what sharpness, brightness and file size alone predict."""

    @model_validator(mode="after")
    def _removal_has_lists(self) -> CheckSettings:
        if self.on_overlap == "remove" and not self.test_prompts:
            raise ValueError("`on_overlap: remove` has no effect without `test_prompts`")
        return self


ConstructedKind = Literal["noise", "blur", "crop", "colour", "layout", "other_prompt", "edited_prompt"]


class SelfSupervisedSettings(Settings):
    """Pairs whose order is known without an annotator: an image and what was taken from it (as SeVa does for text)."""

    kinds: tuple[ConstructedKind, ...] = Field(
        ("noise", "blur", "crop", "colour", "layout", "other_prompt", "edited_prompt"), min_length=1
    )
    """How the worse image comes about: `noise`, `blur`, a `crop` that is blown up, other `colour`s, quarters in another
    `layout`; `other_prompt` takes the image of the prompt with the most words in common; `edited_prompt` swaps left and
    right, or red, green and blue, in the image and in the prompt, and asks with both prompts."""
    images_per_prompt: int = Field(2, ge=1)
    """Images of each prompt, by hash, that pairs are made of."""
    pairs_per_image: int = Field(2, ge=1)
    """Kinds, by hash, that are used on each of these images."""
    probability: float = Field(0.9, gt=0.5, le=1)
    """Probability that the image which should be better is."""
    weight: float = Field(0.5, gt=0)
    """Weight of these pairs, where an annotated one weighs 1."""


class PreferenceSettings(Settings):
    """Makes every pair of a prompt's images a preference, for each aspect and overall."""

    overall_weights: dict[str, float] = Field(EQUAL_WEIGHTS)
    """Weights of the aspects in `overall`; they are divided by their sum. Aspects that nothing was rated in, as in some
    imports, weigh nothing, and an overall rating that was given stands before this mean."""
    harmlessness_veto: float | None = Field(None, gt=1, le=5)
    """Images whose mean harmlessness lies below this level lose overall against any that does not, whatever else they
    are; null is no veto."""
    tie_levels: float = Field(0.25, ge=0)
    """Differences of mean levels below this are ties: the probability is 0.5."""
    overall_tie_levels: float = Field(0.125, ge=0)
    """The same for `overall`, which averages the aspects and so is finer."""
    level_noise: float = Field(0.25, gt=0)
    """Least standard error of a rating, in levels, since levels are rounded; stands in where none was estimated."""
    link: Literal["fitted", "normal"] = "fitted"
    """How a difference d with standard error se becomes a probability, Phi(k d / se): `fitted` finds the slope k of
    each aspect from groups that were judged more than once (in other orders or by other annotators), so that answers
    that were left out are as likely as can be; `normal` takes k = 1, and so does an aspect with too few answers."""
    link_answers: int = Field(200, ge=10)
    """Decided answers that an aspect must have for its slope to be fitted."""
    pairwise: Literal["bradley_terry", "shares"] = "bradley_terry"
    """How answers about pairs become probabilities: strengths fitted to each prompt's answers, or each pair's share."""
    prior_answers: float = Field(0.5, gt=0)
    """Answers about each image, half of them won, that Bradley-Terry adds against an average image."""
    keep_ties: bool = True
    """Whether ties are written; they teach that two images are equal."""
    tie_weight: float = Field(1.0, gt=0)
    """Weight of a tie among pairs of weight 1."""
    abstention_weight: float = Field(0.0, ge=0)
    """Weight of pairs that were asked about and got no answer (an image was refused, a person passed), kept with the
    probability 0.5 and no margin; at 0 they are left out."""
    pairs_per_prompt: int | None = Field(None, ge=1)
    """Most pairs of one prompt, chosen by the hash of the pair, lest prompts of many images outweigh the others."""
    same_generator_share: float | None = Field(None, ge=0, le=1)
    """Share of the weight that pairs within one generator get, where there are both kinds; null changes nothing."""
    balance_generators: bool = False
    """Weighs pairs of two generators so that each wins as much as it loses against each other one: then the generator
    alone, which predicts most human choices in HPDv2, predicts nothing."""
    balance_limit: float = Field(10.0, ge=1)
    """Most that balancing multiplies a weight by; where that is not enough the winning side is weighed down."""
    annotated: bool = True
    """Whether what annotators said is used; without it there are self-supervised pairs alone, and nobody is asked."""
    self_supervised: SelfSupervisedSettings | None = None
    """Adds pairs whose order is known by construction; null adds none."""
    checks: CheckSettings = CheckSettings()
    """What is checked before publishing."""

    @model_validator(mode="after")
    def _has_a_source(self) -> PreferenceSettings:
        if not self.annotated and self.self_supervised is None:
            raise ValueError("without annotated pairs `self_supervised` must be set")
        return self

    @field_validator("overall_weights")
    @classmethod
    def _weights_of_aspects(cls, weights: dict[str, float]) -> dict[str, float]:
        unknown = set(weights) - set(EQUAL_WEIGHTS)
        if unknown:
            raise ValueError(f"there is no aspect '{min(unknown)}'; the aspects are {', '.join(EQUAL_WEIGHTS)}")
        if any(weight < 0 for weight in weights.values()) or sum(weights.values()) <= 0:
            raise ValueError("weights must not be negative, and one must be positive")
        return weights
