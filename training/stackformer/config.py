"""The config of a Stackformer for a token set: its facts come from the tokens, so that the two cannot disagree."""

from pathlib import Path

from models.stackformer import StackformerConfig
from settings.stackformer import StackformerSettings
from shards.tokens import TokenFacts
from workspace.errors import UserError


def config_of(settings: StackformerSettings, facts: TokenFacts, tokens: Path) -> StackformerConfig:
    """The model's config for these tokens.

    Raises:
        UserError: the tokens lack the condition, or the network's settings do not fit them.
    """
    if not facts.counts["val"]:
        raise UserError(
            f"{tokens} holds no validation images; set shard.val_fraction > 0 and run `dvc repro`"
        )
    length, vocab = 1, 1
    if settings.condition == "class":
        if not facts.classes:
            raise UserError(
                f"stackformer.condition is class, but {tokens} has no classes; expected none or text"
            )
        vocab = len(facts.classes)
    elif settings.condition == "text":
        if not facts.text_length or not facts.text_vocab:
            raise UserError(
                f"stackformer.condition is text, but {tokens} holds no captions: set tokenize.text_vocab and "
                "text_length and run `dvc repro tokenize`"
            )
        length, vocab = facts.text_length, facts.text_vocab
    try:
        return StackformerConfig(
            network=settings.model,
            num_codes=facts.num_codes,
            num_positions=facts.num_positions,
            num_kept=facts.num_kept,
            fewest_kept=facts.fewest_kept,
            condition=settings.condition,
            condition_length=length,
            condition_vocab=vocab,
        )
    except ValueError as error:
        raise UserError(f"stackformer.model does not fit {tokens}: {error}") from error
