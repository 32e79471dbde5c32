"""Settings that contradict each other, within a section or across sections, are refused before any work."""

import pytest

from tests.committed import ROOT
from tests.stages.test_train_and_sample import HERE, settings_of, training_of
from workflow.params import load_params
from workspace.errors import UserError
from workspace.settings import Section


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (training_of(micro_batch=3), "global_batch 8 is not a multiple of micro_batch 3"),
        (training_of(condition="none"), "cfg_dropout is 0.1; expected 0"),
        (settings_of(batch=3), "samples_per_shard 4 is not a multiple of batch 3"),
    ],
)
def test_settings_of_a_section_that_contradict_each_other_are_refused(section: Section, message: str) -> None:
    with pytest.raises(UserError, match=f"params.yaml: {section.SECTION}.*{message}"):
        section.check(f"params.yaml: {section.SECTION}", HERE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["tokenize.budget.kind=rate", "tokenize.budget.mask_ratio=0.99"],
            "tokenize.budget.mask_ratio .* on the mean",
        ),
        (["tokenize.budget.mask_ratio=0.999", "mqvae.model.kept=any"], "keeps N = 0 of L = 64 cells"),
        (["stackformer.condition=text"], "tokenize.text_vocab 0, text_length 0; expected both > 0"),
        (["sample.prompts=[a star]"], "sample.prompts needs stackformer.condition text, which is class"),
        (
            ["stackformer.condition=text", "tokenize.text_vocab=300", "tokenize.text_length=8"],
            "sample.prompts is empty",
        ),
        (
            ["stackformer.condition=none", "stackformer.cfg_dropout=0.0", "sample.classes=[star]"],
            "sample.classes needs stackformer.condition class",
        ),
        (["stackformer.cfg_dropout=0.0"], "sample.guidance_scale is 3.0 and stackformer.cfg_dropout 0"),
        (["stackformer.model.position_layers=0"], "position_layers is 0 and mqvae.model.mask_ratio 0.5"),
        (["evaluate.num_images=3"], "evaluate.num_images is 3 and sample.num_images 36; expected 4 ≤"),
        (
            [f"evaluate.torchscript_sha256={'a' * 64}"],
            "evaluate.torchscript_sha256 is a+, expected reference",
        ),
        (
            [f"reconstruct.torchscript_sha256={'a' * 64}"],
            "reconstruct.torchscript_sha256 is a+, expected reference.torchscript_sha256, None",
        ),
    ],
)
def test_sections_that_contradict_each_other_are_refused_before_any_work(
    changes: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_params(ROOT / "presets" / "tiny.yaml", changes)
