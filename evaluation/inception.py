"""Inception as clean-fid uses it (Parmar et al. 2022): its bicubic resize to 299 and its TorchScript network.

Only with these features are distances called FID, rFID and KID.
"""

import shutil
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.features import Features, Images
from workspace.errors import UserError
from workspace.manifest import atomic_path, sha256_file

WEIGHTS = "inception-2015-12-05.pt"
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
SIDE = 299


class InceptionExtractor:
    """pool_3 features (2,048) and logits of 1,008 classes, without the bias as in the Inception score."""

    name = "inception"
    dim = 2048
    resize = "clean-fid: PIL bicubic to 299×299 in float, each channel"

    def __init__(self, folder: Path, fingerprint: str, device: torch.device) -> None:
        from cleanfid.inception_torchscript import InceptionV3W
        from cleanfid.resize import make_resizer

        self.network = InceptionV3W(str(folder), download=False).to(device).eval()
        self.resizer = make_resizer("PIL", False, "bicubic", (SIDE, SIDE))
        self.fingerprint = fingerprint
        self.device = device
        self.heads: dict[str, tuple[str, ...]] = {}

    @torch.inference_mode()
    def __call__(self, images: Images) -> Features:
        """Features of uint8 images [B, H, W, 3]."""
        resized: NDArray[np.float32] = np.stack([self.resizer(image) for image in images])
        x_BCHW = torch.from_numpy(resized).to(self.device).permute(0, 3, 1, 2)
        features_BD = self.network(x_BCHW)
        logits_BC = features_BD @ self.network.base.output.weight.T
        return Features(features_BD.cpu().numpy(), {"imagenet": logits_BC.cpu().numpy()})


def install_inception(weights: Path | None, folder: Path) -> None:
    """Put the network into `folder`, from a file (checked by its SHA-256) or by clean-fid's own download.

    Raises:
        UserError: no such file, another file; clean-fid missing; offline: what to fetch and where to name it.
    """
    try:
        from cleanfid.downloads_helper import inception_url
    except ImportError as error:
        raise UserError("reference.features: inception needs clean-fid: `pip install clean-fid`") from error
    folder.mkdir(parents=True, exist_ok=True)
    if weights is not None and not weights.is_file():
        raise UserError(f"reference.weights {weights} does not exist; fetch {inception_url} to it")
    with atomic_path(folder / WEIGHTS) as temporary:
        if weights is not None:
            shutil.copyfile(weights, temporary)
        else:
            _download(inception_url, temporary)
        found = sha256_file(temporary)
        if found != SHA256:
            what = weights or inception_url
            raise UserError(
                f"{what} has SHA-256 {found[:12]}…, clean-fid's Inception has {SHA256[:12]}…: "
                f"fetch {inception_url}"
            )


def _download(url: str, path: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=60) as response, path.open("wb") as file:
            shutil.copyfileobj(response, file)
    except (urllib.error.URLError, OSError) as error:
        raise UserError(
            f"no Inception weights: {url} cannot be fetched ({error}); "
            f"fetch it elsewhere, put it at data/{WEIGHTS} and set reference.weights: data/{WEIGHTS}"
        ) from error


def load_inception(folder: Path, device: torch.device) -> InceptionExtractor:
    """Read what `install_inception` put there."""
    return InceptionExtractor(folder, sha256_file(folder / WEIGHTS), device)
