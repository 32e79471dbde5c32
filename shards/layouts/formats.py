"""Decides which files are pictures: by extension if it is known, else by the first bytes."""

import os
import stat
from pathlib import Path

PICTURES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".png", ".apng", ".webp", ".bmp", ".dib",
    ".gif", ".tif", ".tiff", ".avif", ".avifs", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".j2c", ".jpc",
    ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".psd", ".ico", ".icns", ".pcx", ".sgi",
    ".qoi", ".xbm", ".xpm",
})  # fmt: skip
"""Extensions of pictures that Pillow reads, and HEIC, which it reads if pillow-heif is installed."""
RAW = frozenset({
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".pef",
    ".srw", ".3fr", ".iiq",
})  # fmt: skip
"""Camera raw files: Pillow would open the thumbnail inside instead of the picture."""
OTHERS = frozenset({
    ".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".md", ".html", ".htm", ".log",
    ".ini", ".cfg", ".lst", ".pdf", ".eps", ".ps", ".ai", ".wmf", ".emf", ".svg", ".svgz", ".py", ".ipynb",
    ".sh", ".js", ".npy", ".npz", ".mat", ".pkl", ".pt", ".pth", ".h5", ".hdf5", ".parquet", ".arrow",
    ".tar", ".zip", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".db", ".sqlite", ".mp4", ".mov",
    ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mp3", ".wav", ".dvc", ".lock", ".safetensors", ".cls",
    ".exr", ".hdr", ".dcm", ".nii",
})  # fmt: skip
"""Extensions of files that are never opened to find out what they are."""
MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
    b"8BPS",
    b"qoif",
)
"""The first bytes of picture files."""
BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
"""Brands of files that begin with an `ftyp` box: AVIF and HEIC."""
NO_PICTURE = "not a picture"
LINK_TO_NOTHING = "a link to a file that is missing"
PassedOver = dict[str, int]
"""Reason for skipping → number of files."""


def is_picture(head: bytes) -> bool:
    """Whether a file begins like a picture; 16 bytes are enough."""
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    if head[4:8] == b"ftyp":
        return head[8:12] in BRANDS
    if head[:2] == b"BM":
        return head[6:10] == bytes(4)
    return head.startswith(MAGIC)


def why_no_picture(folder: str | None, name: str) -> str | None:
    """Why a file is skipped; None for a picture.

    A file is opened only if its extension is unknown and its folder is given.
    """
    extension = Path(name).suffix.lower()
    if extension in PICTURES:
        return None
    if extension in RAW:
        return f"{extension}: a camera's raw data"
    shown = extension if 1 < len(extension) <= 12 and extension.isprintable() else "no extension"
    if folder is not None and extension not in OTHERS and is_picture(_head(Path(folder, name))):
        return None
    if folder is not None and leads_nowhere(Path(folder, name)):
        return LINK_TO_NOTHING
    return f"{shown}: {NO_PICTURE}"


def leads_nowhere(path: Path) -> bool:
    """Whether a path is a link whose file or folder is missing."""
    return path.is_symlink() and not os.path.exists(path)


def _head(path: Path) -> bytes:
    """A file's first 16 bytes; empty if it is not a plain file or is not readable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with open(descriptor, "rb") as file:
        return file.read(16) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""


def add(passed_over: PassedOver, why: str, count: int = 1) -> None:
    """Count skipped files."""
    passed_over[why] = passed_over.get(why, 0) + count


def told_passed_over(passed_over: PassedOver) -> str:
    """`12 files passed over: 9 .txt: not a picture, 3 hidden file`; "" if there are none."""
    if not passed_over:
        return ""
    parts = sorted(passed_over.items(), key=lambda item: (-item[1], item[0]))
    return f"{sum(passed_over.values()):,} passed over: " + ", ".join(
        f"{count:,} {why}" for why, count in parts
    )
