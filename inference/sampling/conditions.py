"""Conditions of the images to draw, encoded for a Stackformer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.base.published import TEXT_TOKENIZER, MQVAEFacts, StackformerFacts
from models.stackformer import Stackformer
from settings.sample import SampleSettings
from shards.text import TextTokenizer
from workspace.errors import UserError
from workspace.exact.manifest import Manifest, facts_of

BY_HAND_COMMAND = "python -m stages.sample"


@dataclass(frozen=True)
class Conditions:
    """Conditions of the images to draw; image i uses entry i modulo the number of entries.

    Attributes:
        condition: none, class or text.
        labels: class names or prompts; empty for none.
        classes: each class's index; empty unless condition is class.
        codes: each entry's N_c condition codes.
    """

    condition: str
    labels: tuple[str, ...] = ()
    classes: tuple[int, ...] = ()
    codes: tuple[tuple[int, ...], ...] = ((0,),)

    def of(self, index: int) -> tuple[int | None, str | None]:
        """The class and the prompt of image `index`, each None if it has none."""
        cls = self.classes[index % len(self.classes)] if self.classes else None
        return cls, self.labels[index % len(self.labels)] if self.labels and cls is None else None

    def tensor(self, indices: Sequence[int]) -> Tensor:
        """Condition codes of the images at `indices`, int64 [B, N_c]."""
        return torch.tensor([self.codes[index % len(self.codes)] for index in indices])


def conditions_of(settings: SampleSettings, learned: StackformerFacts, folder: Path) -> Conditions:
    """The conditions that the settings ask for.

    Args:
        settings: classes and prompts.
        learned: the Stackformer's facts.
        folder: its artifact, for errors.

    Raises:
        UserError: an unknown class, no prompts, or a condition that `require_condition` refuses.
    """
    condition, known = learned.condition, learned.classes or ()
    require_condition(settings, learned, folder)
    if condition == "none":
        return Conditions(condition)
    if condition == "text":
        if not settings.prompts:
            raise UserError(
                f"sample.prompts is empty, but {folder} draws from captions: expected at least one, in params.yaml or by "
                f'`{BY_HAND_COMMAND} --prompt "a star" --out DIR`'
            )
        length = Stackformer.from_pretrained(folder).config.condition_length
        codes = TextTokenizer.load(folder / TEXT_TOKENIZER).encode(settings.prompts, length)
        return Conditions(
            condition, tuple(settings.prompts), codes=tuple(tuple(row) for row in codes.tolist())
        )
    names = known if settings.classes == "all" else settings.classes
    for name in names:
        if name not in known:
            raise UserError(f"sample.classes names {name}; {folder} knows {', '.join(known)}")
    indices = tuple(known.index(name) for name in names)
    return Conditions(condition, tuple(names), indices, tuple((index,) for index in indices))


def require_condition(settings: SampleSettings, learned: StackformerFacts, folder: Path) -> None:
    """Check that the Stackformer was trained for the requested conditions.

    Raises:
        UserError: prompts or classes for a model trained without them, or guidance for a model trained without dropping
            the condition.
    """
    condition, known = learned.condition, learned.classes or ()
    by_class = f"by class: `{BY_HAND_COMMAND} --class {known[0]} --out DIR`" if condition == "class" else ""
    draws = {
        "class": by_class,
        "text": f'from captions: `{BY_HAND_COMMAND} --prompt "a star" --out DIR`',
        "none": "without a condition: expected none",
    }[condition]
    if condition != "text" and settings.prompts is not None:
        raise UserError(
            f"sample.prompts needs a Stackformer of captions (`make repro PRESET=shapes_text` trains one), but {folder} "
            f"draws {draws}"
        )
    if condition != "class" and settings.classes != "all":
        raise UserError(f"sample.classes needs a Stackformer of classes, but {folder} draws {draws}")
    if settings.guidance_scale != 1 and learned.cfg_dropout == 0:
        raise UserError(
            f"sample.guidance_scale is {settings.guidance_scale}, but {folder} never learned to draw without its condition "
            "(stackformer.cfg_dropout was 0); expected 1"
        )


def require_same_codes(learned: StackformerFacts, mqvae: Manifest, folders: tuple[Path, Path]) -> None:
    """Check that the decoder is the one whose codes the Stackformer learned.

    Args:
        learned: the Stackformer's facts.
        mqvae: the MQ-VAE's manifest.
        folders: the artifacts of Stackformer and MQ-VAE, for the error.

    Raises:
        UserError: the decoder is a different MQ-VAE.
    """
    expected, found = learned.mqvae, mqvae.fingerprint
    if expected != found:
        raise UserError(
            f"{folders[0]} learned tokens made by MQ-VAE {expected[:4]}…, {folders[1]} is "
            f"{found[:4]}…: run `dvc repro train_stackformer`, or sample with the first one"
        )
    decodes = facts_of(MQVAEFacts, mqvae)
    pairs = {
        "grid": (learned.grid, decodes.grid),
        # one trained for any number of cells decodes any
        "num_kept": (learned.num_kept, learned.num_kept if decodes.kept == "any" else decodes.num_kept),
        "num_codes": (learned.num_codes, decodes.num_codes),
    }
    for name, (drawn, decoded) in pairs.items():
        if drawn != decoded:
            raise UserError(
                f"{folders[0]} draws {name} {drawn}, but {folders[1]} decodes {decoded}: run `dvc repro train_stackformer`"
            )
