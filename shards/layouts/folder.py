"""Any pictures below a folder: unlabelled."""

from shards.layouts.listed import Location, Source, SourceImage
from shards.layouts.walking import names_of


def list_folder(source: str) -> Source:
    """Every image at any depth."""
    root, names = names_of(source)
    return Source([SourceImage(name, Location(str(root / name))) for name in names])
