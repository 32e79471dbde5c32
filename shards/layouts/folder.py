"""Any pictures below a folder: unlabelled."""

from shards.layouts.listed import Location, Source, SourceImage
from shards.layouts.walking import files_of


def list_folder(source: str) -> Source:
    """Every image at any depth."""
    files = files_of(source)
    images = [SourceImage(name, Location(str(files.root / name))) for name in files.names]
    return Source(images, passed_over=files.passed_over)
