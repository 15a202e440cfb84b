"""Pretrains the embedded world's BLIP on rendered scenes, from a seed.

Four losses on the same pictures. BLIP's own (arXiv 2201.12086): image-text matching, with negatives that are wrong by
one fact, and a language loss on masked words. Two of what the renderer knows, which stand in for the millions of
pictures that a large BLIP has seen: what each patch shows and where the things that the caption names stand (phrase
grounding, as in MDETR, arXiv 2104.12763), and how the picture looks (how blurred, how noisy, how full). No judge takes
part, and no held-out scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertTokenizer, BlipForImageTextRetrieval

from vp_ray.ids import seed_from
from vp_ray.shapeworld.backbone import PATCH, new_blip, write_bert_tokenizer
from vp_ray.shapeworld.captions import draw_wrong
from vp_ray.shapeworld.degradations import Degradation, degrade, draw_degradation
from vp_ray.shapeworld.render import COLOUR_RGB, GROUND_RGB, IMAGE_SIDE, Arrangement, arrange, render, shape_coverage
from vp_ray.shapeworld.scenes import COLOURS, COUNT_WORDS, GROUNDS, SHAPES, SIZES, prompt_of
from vp_ray.shapeworld.training import Report, ResumableLoop, SceneSampler, pixels_to_unit

BACKBONE_STEPS: Final = 7000
_BATCH: Final = 32
_NEGATIVES: Final = 1
_LEARNING_RATE: Final = 1.5e-3
_HAZARD_SHARE: Final = 0.2
_APPEARANCE_WEIGHT: Final = 1.0
_PATCH_WEIGHT: Final = 1.0
_FACT_WORDS: Final = frozenset(
    (*COLOURS, *SHAPES, *(f"{shape}s" for shape in SHAPES), *SIZES, *COUNT_WORDS, *GROUNDS)
) | {"left", "right", "above", "below"}


@dataclass(frozen=True, slots=True)
class Lesson:
    """One batch: pictures, and for each of them 1 + N captions of which the first is right, and how it looks."""

    images: NDArray[np.uint8]
    captions: list[list[str]]
    appearance: NDArray[np.float32]
    patches: NDArray[np.float32]
    """(B, patches, 4): colour and shape of what covers a patch (0 is ground), and where its centre stands, in 0..1."""
    places: list[list[tuple[float, float]]]
    """Where the things that the right caption names stand, in 0..1 and in its order; none where it names several."""


def _appearance(arrangement: Arrangement, degradation: Degradation) -> tuple[float, ...]:
    """Blur, warp, noise, hazard, coverage, margin, imbalance and contrast of a picture, each in about 0..1."""
    areas = np.array([thing.radius**2 for thing in arrangement.things])
    places = np.array([(thing.x, thing.y) for thing in arrangement.things])
    centre = (areas[:, None] * places).sum(axis=0) / areas.sum()
    margins = [min(t.x, t.y, IMAGE_SIDE - t.x, IMAGE_SIDE - t.y) - t.radius for t in arrangement.things]
    ground = np.array(GROUND_RGB[arrangement.ground])
    contrasts = [np.abs(ground - COLOUR_RGB[thing.colour]).mean() for thing in arrangement.things]
    return (
        degradation.blur / 1.2,
        degradation.warp / 0.8,
        degradation.noise / 25,
        float(arrangement.hazard is not None),
        3 * float(areas.sum()) / IMAGE_SIDE**2,
        float(min(margins)) / 8,
        float(np.abs(centre - IMAGE_SIDE / 2).max()) / 10,
        float(min(contrasts)) / 128,
    )


def _patches(arrangement: Arrangement) -> NDArray[np.float32]:
    """What each patch shows, (patches, 4), as in `Lesson.patches`."""
    cells = IMAGE_SIDE // PATCH
    shown = np.zeros((cells, cells, 4), np.float32)
    for thing in arrangement.things:
        coverage = shape_coverage(thing.shape, thing.x, thing.y, thing.radius)
        inside = coverage.reshape(cells, PATCH, cells, PATCH).mean(axis=(1, 3)) > 0.25
        kind = (COLOURS.index(thing.colour) + 1, SHAPES.index(thing.shape) + 1)
        shown[inside] = (*kind, thing.x / IMAGE_SIDE, thing.y / IMAGE_SIDE)
    return shown.reshape(-1, 4)


def draw_lesson(sampler: SceneSampler, rng: np.random.Generator, pictures: int = _BATCH) -> Lesson:
    """A batch of training scenes, rendered and degraded, with captions that are wrong by one fact."""
    images, captions, appearance, patches, places = [], [], [], [], []
    for _ in range(pictures):
        scene = sampler.draw(rng)
        arrangement, degradation = arrange(scene, rng, _HAZARD_SHARE), draw_degradation(rng)
        images.append(degrade(render(arrangement), degradation, rng))
        shown = [scene, *(draw_wrong(scene, rng) for _ in range(_NEGATIVES))]
        captions.append([prompt_of(each) for each in shown])
        appearance.append(_appearance(arrangement, degradation))
        patches.append(_patches(arrangement))
        named = arrangement.things if scene.count == 1 else ()
        places.append([(thing.x / IMAGE_SIDE, thing.y / IMAGE_SIDE) for thing in named])
    return Lesson(np.stack(images), captions, np.array(appearance, np.float32), np.stack(patches), places)


def _masked(tokens: Tensor, fact_ids: Tensor, mask_id: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Tokens (B, T) with about a quarter of the fact words masked, and the targets there (-100 elsewhere)."""
    chosen = torch.isin(tokens, fact_ids) & torch.from_numpy(rng.random(tuple(tokens.shape)) < 0.25)
    return tokens.masked_fill(chosen, mask_id), tokens.masked_fill(~chosen, -100)


def matching_logits(model: BlipForImageTextRetrieval, states: Tensor) -> Tensor:
    """log-odds (N,) that each caption fits its picture, from the first token's state (N, width)."""
    logits = model.itm_head(states)
    return logits[:, 1] - logits[:, 0]


class _Pretraining(nn.Module):
    """The BLIP with the two heads that only pretraining needs."""

    def __init__(self, model: BlipForImageTextRetrieval, tokenizer: BertTokenizer) -> None:
        super().__init__()
        width = model.config.text_config.hidden_size
        self.model, self.tokenizer = model, tokenizer
        self.words = nn.Linear(width, len(tokenizer))
        self.looks = nn.Linear(width, 8)
        self.patch_colour = nn.Linear(width, len(COLOURS) + 1)
        self.patch_shape = nn.Linear(width, len(SHAPES) + 1)
        self.patch_centre = nn.Linear(width, 2)
        self.patch_quality = nn.Linear(width, 3)
        self.word_place = nn.Linear(width, 2)
        facts = sorted(tokenizer.convert_tokens_to_ids(sorted(_FACT_WORDS)))
        self.noun_ids = torch.tensor(sorted(tokenizer.convert_tokens_to_ids(list(SHAPES))))
        self.fact_ids = torch.tensor(facts)

    def forward(self, lesson: Lesson, rng: np.random.Generator) -> Tensor:
        """The sum of the three losses on a lesson."""
        count, captions = len(lesson.captions), len(lesson.captions[0])
        flat = [caption for group in lesson.captions for caption in group]
        tokens = self.tokenizer(flat, padding=True, return_tensors="pt")
        ids = tokens.input_ids.view(count, captions, -1)
        kept = tokens.attention_mask.view(count, captions, -1)
        masked, targets = _masked(ids[:, 0], self.fact_ids, self.tokenizer.mask_token_id, rng)
        ids = torch.cat([ids, masked[:, None]], dim=1)
        kept = torch.cat([kept, kept[:, :1]], dim=1)
        seen = self.model.vision_model(pixel_values=pixels_to_unit(lesson.images)).last_hidden_state
        states = self.model.text_encoder(
            input_ids=ids.flatten(0, 1),
            attention_mask=kept.flatten(0, 1),
            encoder_hidden_states=seen.repeat_interleave(captions + 1, dim=0),
        ).last_hidden_state.unflatten(0, (count, captions + 1))
        first = states[:, :captions, 0]
        logits = matching_logits(self.model, first.flatten(0, 1)).view(count, captions)
        fits = torch.zeros_like(logits)
        fits[:, 0] = 1
        weights = torch.where(fits > 0, 0.5, 0.5 / (captions - 1))
        matching = functional.binary_cross_entropy_with_logits(logits, fits, weights, reduction="sum") / count
        language = functional.cross_entropy(self.words(states[:, captions]).flatten(0, 1), targets.flatten())
        asked = torch.from_numpy(lesson.appearance)[:, None].expand(-1, captions, -1)
        looks = functional.mse_loss(self.looks(first), asked)
        patches = self._patch_loss(seen[:, 1:], torch.from_numpy(lesson.patches), asked[:, :1, :3])
        patches = patches + self._grounding_loss(states[:, 0], ids[:, 0], lesson)
        return matching + language + _APPEARANCE_WEIGHT * looks + _PATCH_WEIGHT * patches

    def _grounding_loss(self, states: Tensor, ids: Tensor, lesson: Lesson) -> Tensor:
        """The squared distance between where a noun's state says that its thing stands and where it does."""
        named = torch.tensor([bool(places) for places in lesson.places])
        nouns = torch.isin(ids, self.noun_ids) & named[:, None]
        wanted = torch.tensor([place for places in lesson.places for place in places])
        return 8 * (self.word_place(states[nouns]) - wanted).square().sum(dim=-1).mean()

    def _patch_loss(self, states: Tensor, shown: Tensor, quality: Tensor) -> Tensor:
        """How well patches tell what they show, where its centre is, and how blurred, warped and noisy it all is."""
        colour, shape = shown[..., 0].long(), shown[..., 1].long()
        weight = torch.where(colour > 0, 1.0, 0.2)
        kinds = functional.cross_entropy(self.patch_colour(states).transpose(1, 2), colour, reduction="none")
        kinds = kinds + functional.cross_entropy(self.patch_shape(states).transpose(1, 2), shape, reduction="none")
        places = (self.patch_centre(states) - shown[..., 2:]).square().sum(dim=-1) * (colour > 0)
        qualities = (self.patch_quality(states) - quality).square().mean()
        return (weight * kinds + 4 * places).sum() / weight.sum() + 4 * qualities


def train_backbone(
    work: Path, seed: int, report: Report, steps: int = BACKBONE_STEPS
) -> tuple[BlipForImageTextRetrieval, BertTokenizer]:
    """The pretrained BLIP and its tokenizer; goes on from `work` when it was cut off."""
    torch.manual_seed(seed_from(seed, "blip"))
    tokenizer = write_bert_tokenizer(work / "bert-tokenizer")
    model = new_blip(tokenizer)
    pretraining = _Pretraining(model, tokenizer)
    sampler = SceneSampler()

    def loss_of_step(step: int) -> Tensor:
        rng = np.random.default_rng(seed_from(seed, "blip", step))
        return pretraining(draw_lesson(sampler, rng), rng)

    ResumableLoop("blip", nn.ModuleDict({"blip": pretraining}), steps, _LEARNING_RATE, work).run(loss_of_step, report)
    return model, tokenizer
