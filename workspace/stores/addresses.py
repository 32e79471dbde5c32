"""Addresses of stores: which URLs are opened, and by which package; looked at as text, without the network.

Nothing is executed: a scheme is one of `PACKAGES`, without chains (`::`), and credentials are never part of a URL.
"""

import difflib
import re
from pathlib import Path

from workspace.errors import UserError

PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "hf": "huggingface_hub",
    "http": "aiohttp",
    "https": "aiohttp",
    "file": "fsspec",
}
"""Scheme → the package that opens it."""
WEB = ("http", "https")
"""Schemes that cannot list."""
CONTAINERS = ("az", "abfs", "abfss")
"""Schemes in which CONTAINER@ACCOUNT is an address."""
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
HOST = re.compile(r"[^/?#]*")
"""What is before the path; not by `urlsplit`, which raises at a lone bracket."""
CREDENTIALS = {
    "s3fs": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or FSSPEC_S3='{\"anon\": true}' for a public bucket",
    "gcsfs": 'GOOGLE_APPLICATION_CREDENTIALS, or FSSPEC_GS=\'{"token": "anon"}\' for a public bucket',
    "adlfs": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "huggingface_hub": "HF_TOKEN",
}
"""Package → the variables that its client reads."""


def is_url(text: str) -> bool:
    """Whether a text is a URL (`s3://…`), and no path."""
    return SCHEME.match(text) is not None


def refuse_wrong(url: str, what: str) -> None:
    """Look at a URL's form, without the network.

    Args:
        url: a text for which `is_url` holds.
        what: the setting, for errors.

    Raises:
        UserError: a scheme that is not opened, a chain, or credentials within the URL.
    """
    scheme = url.partition("://")[0].lower()
    if "::" in url:
        raise UserError(f"{what} {url} is a chain of file systems (::), which is refused; expected one URL")
    if scheme not in PACKAGES:
        near = difflib.get_close_matches(scheme, PACKAGES, 1, cutoff=0.5)
        hint = f". Did you mean {near[0]}://?" if near else ""
        raise UserError(
            f"{what} {url}: {scheme}:// is not opened; expected {', '.join(f'{name}://' for name in PACKAGES)}{hint}"
        )
    user, at, host = _host(url).rpartition("@")
    if at and not (scheme in CONTAINERS and ":" not in user):
        raise UserError(
            f"{what} {url.partition('://')[0]}://…@{host} holds credentials, which would "
            f"be kept in params.yaml and logs: take them out, and set {CREDENTIALS.get(PACKAGES[scheme], 'none')}"
        )


def _host(url: str) -> str:
    found = HOST.match(url.partition("://")[2])
    return found[0] if found else ""


def refuse_unwritable(url: str, what: str) -> None:
    """UserError as `refuse_wrong`, and for a web server, at which nothing can be put."""
    refuse_wrong(url, what)
    if scheme_of(url) in WEB:
        raise UserError(
            f"{what} {url}: nothing can be put there; expected a store, such as s3://bucket/folder"
        )
    if any(sign in url for sign in "*?["):
        raise UserError(f"{what} {url} is a pattern (*, ?, [); expected the URL of one folder")


def local_path(url: str) -> Path | None:
    """The path of a file:// URL; None of others."""
    return Path(url.partition("://")[2]) if url.lower().startswith("file://") else None


def scheme_of(url: str) -> str:
    """The scheme of a URL, in lower case."""
    return url.partition("://")[0].lower()
