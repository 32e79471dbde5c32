"""Section `shard`: the data set."""

import os
from pathlib import Path

from pydantic import Field, NonNegativeFloat, PositiveInt

from shards.layouts.reading import ColumnUse, Reading, Role
from shards.making.duplicates import Duplicates
from shards.making.pictures import Format
from shards.making.sources import Kind
from workspace.errors import UserError
from workspace.exact.seeds import Seed
from workspace.settings import Compute, Section, refuse_tilde
from workspace.stores.addresses import is_url, local_path, refuse_unwritable, refuse_wrong


class ShardSettings(Section):
    """Settings of the stage shard."""

    SECTION = "shard"
    kind: Kind = Field(description="layout of the source; auto takes what `python -m shards.inspect` finds")
    source: str = Field(
        description="folder, zip, list of paths, listing, or glob of tars; a path or a URL (s3://…)"
    )
    image_size: PositiveInt = Field(description="pixels per side: short side resized, centre cropped")
    format: Format = Field(description="png (exact) or jpg")
    quality: PositiveInt = Field(description="JPEG quality, if format is jpg", le=95)
    val_fraction: NonNegativeFloat = Field(
        description="held out if the source has no validation set: per class, or by hash of the name without classes",
        lt=1,
    )
    samples_per_shard: PositiveInt = Field(description="images per tar")
    max_bad_fraction: NonNegativeFloat = Field(
        description="largest share of unreadable files; the stage stops above it", le=1
    )
    duplicates: Duplicates = Field(
        default="keep", description="images whose bytes equal another's: keep (they are counted) or drop"
    )
    seed: Seed = Field(description="seed of the split and of the order")
    roles: dict[str, Role] = Field(
        default_factory=dict,  # this and the next three have defaults, so that older params files stay valid
        description="role of a folder, file or split column's value whose name misleads: {test: val, extra: skip}",
    )
    tables: list[str] | None = Field(
        default=None,
        description="files of the source with labels, captions or splits, '*.txt' for texts beside the images; null searches",
    )
    columns: dict[ColumnUse, str] = Field(
        default_factory=dict,
        description="columns of tables, members of tars, or expressions with one group for file names, if not obvious: "
        "{label: Smiling}, {mask: seg.png}, {label: '^(.+)_'}",
    )

    tars: str | None = Field(
        default=None,
        description="glob that selects from a folder of tars: 'train-{000..099}.tar'; null takes all",
    )

    home: str | None = Field(
        default=None,
        description="folder or URL for the tars, which DVC then tracks by their manifest; null: beside it, hashed by DVC",
    )

    def homes(self) -> list[Path]:
        """Where the tars are moved to."""
        return [] if self.home is None or is_url(self.home) else [Path(self.home)]

    @property
    def reading(self) -> Reading:
        """The settings that the source's readers take."""
        tables = None if self.tables is None else tuple(self.tables)
        return Reading(self.roles, tables, self.columns, self.tars)

    def check(self, where: str, compute: Compute) -> None:
        """Check that the source is given and does not contain this repository, and where the tars may be."""
        if not self.source.strip():
            raise UserError(f"{where}.source is empty; expected a folder of images, a list, a zip, or tars")
        refuse_tilde(f"{where}.source", self.source)
        refuse_tilde(f"{where}.home", self.home)
        here = Path.cwd()
        if is_url(self.source):
            refuse_wrong(self.source, f"{where}.source")
        elif Path(os.path.normpath(here / self.source)) in (here, *here.parents):
            raise UserError(
                f"{where}.source {self.source} contains this repository; expected a folder with only images"
            )
        if self.home is not None:
            _check_home(f"{where}.home", self.home, here / self.source)


def _check_home(setting: str, home: str, source: Path) -> None:
    """UserError if a home is not a path, or is one in which the tars would be taken for something else."""
    if not home.strip() or len(home.splitlines()) != 1:
        raise UserError(
            f"{setting} is {home!r}; expected a folder in one line, or null: the tars beside their manifest"
        )
    if is_url(home) or "::" in home:  # fsspec takes the latter for a chain
        refuse_unwritable(home, setting)
        if local_path(home) is not None:
            raise UserError(f"{setting} is {home}; expected its path, {local_path(home)}")
        return
    place = Path(home).resolve()
    if place.exists() and not place.is_dir():
        raise UserError(f"{setting} is {home}, which is a file; expected a folder")
    if source.resolve() in (place, *place.parents):
        raise UserError(
            f"{setting} {home} is inside shard.source, which would then hold the tars; expected another folder"
        )
