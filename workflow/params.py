"""A whole params file: one field per section, each checked by itself and then against the others."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

from settings.evaluate import EvaluateSettings
from settings.mqvae import MQVAESettings
from settings.reconstruct import ReconstructSettings
from settings.reference import ReferenceSettings
from settings.report import ReportSettings
from settings.sample import SampleSettings
from settings.shapes import ShapesSettings
from settings.shard import ShardSettings
from settings.stackformer import StackformerSettings
from settings.tokenize import TokenizeSettings
from workflow.across import check_across
from workspace.settings import Compute, S, check_names, read_tree, validate_section


@dataclass(frozen=True)
class Params:
    """All sections, validated, in the order of the workflow."""

    shapes: ShapesSettings
    shard: ShardSettings
    reference: ReferenceSettings
    mqvae: MQVAESettings
    reconstruct: ReconstructSettings
    tokenize: TokenizeSettings
    stackformer: StackformerSettings
    sample: SampleSettings
    evaluate: EvaluateSettings
    report: ReportSettings
    compute: Compute

    def section(self, kind: type[S]) -> S:
        """The section of this class."""
        return next(section for section in vars(self).values() if isinstance(section, kind))


SECTIONS = tuple(field.name for field in fields(Params))


def load_params(path: Path, overrides: Sequence[str] = ()) -> Params:
    """Read, override and validate a whole params file.

    Args:
        path: a YAML file with a section for each stage and `compute`, like presets/shapes.yaml.
        overrides: `section.key=value`, with the value in YAML.

    Raises:
        UserError: the first mistake, in one line.
    """
    tree = read_tree(path, overrides)
    check_names(path, tree, SECTIONS)
    kinds = get_type_hints(Params)
    params = Params(**{name: validate_section(path, kinds[name], tree[name]) for name in SECTIONS})
    for name in SECTIONS:
        vars(params)[name].check(f"{path}: {name}", params.compute)
    check_across(params, path)
    return params
