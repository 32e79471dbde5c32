"""Inception as clean-fid uses it (Parmar et al. 2022): its bicubic resize to 299 and its TorchScript network.

Only distances of these features are called FID, rFID and KID. TorchScript is a program, so its file is loaded only if it has
the SHA-256 from the settings.
"""

import shutil
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from evaluation.features.interface import Features, Images
from evaluation.perceptual.backbones import channels_last
from workspace.errors import UserError
from workspace.exact.manifest import atomic_path, sha256_file

WEIGHTS = "inception-2015-12-05.pt"
URL = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{WEIGHTS}"
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""SHA-256 of the published file."""
SIDE = 299


class InceptionExtractor:
    """pool_3 features (2,048) and logits of 1,008 classes, without the bias as in the Inception score."""

    name = "inception"
    dim = 2048
    resize = "clean-fid: PIL bicubic to 299×299 in float, each channel"

    def __init__(self, folder: Path, fingerprint: str, device: torch.device) -> None:
        from cleanfid.inception_torchscript import InceptionV3W
        from cleanfid.resize import make_resizer

        network: nn.Module = InceptionV3W(str(folder), download=False)
        self.network: Any = channels_last(network).to(device).eval()
        self.network.layers = torch.jit.freeze(self.network.layers)  # norms are folded into convolutions
        self.resizer = make_resizer("PIL", False, "bicubic", (SIDE, SIDE))
        self.fingerprint = fingerprint
        self.device = device
        self.heads: dict[str, tuple[str, ...]] = {}

    @torch.inference_mode()
    def __call__(self, images: Images) -> Features:
        """Features of uint8 images [B, H, W, 3]."""
        x_BCHW = torch.from_numpy(self.resized(images)).to(self.device).permute(0, 3, 1, 2)
        features_BD = self.network(x_BCHW)
        logits_BC = features_BD @ self.network.base.output.weight.T
        return Features(features_BD.cpu().numpy(), {"imagenet": logits_BC.cpu().numpy()})

    def resized(self, images: Images) -> NDArray[np.float32]:
        """The network's input: float32 [B, 299, 299, 3] in [0, 255]; uses as many threads as torch."""
        if images.shape[1:3] == (SIDE, SIDE):
            return images.astype(np.float32)
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return np.stack(list(pool.map(self.resizer, images)))


def install_inception(weights: Path | None, sha256: str | None, folder: Path) -> None:
    """Install the network into `folder`, from a file or by clean-fid's own download.

    Raises:
        UserError: no such file, another SHA-256, no clean-fid, or a failed download; the error says what to fetch and where
            to put it.
    """
    try:
        import cleanfid  # noqa: F401
    except ImportError as error:
        raise UserError("reference.features: inception needs clean-fid: `pip install clean-fid`") from error
    if weights is not None and not weights.is_file():
        raise UserError(f"reference.weights {weights} does not exist; fetch {URL} to it")
    with atomic_path(folder / WEIGHTS) as temporary:
        if weights is not None:
            shutil.copyfile(weights, temporary)
        else:
            _download(temporary)
        _require(temporary, sha256, str(weights or URL))


def _download(path: Path) -> None:
    try:
        with urllib.request.urlopen(URL, timeout=60) as response, path.open("wb") as file:
            shutil.copyfileobj(response, file)
    except (urllib.error.URLError, OSError) as error:
        raise UserError(
            f"no Inception weights: {URL} cannot be fetched ({error}); "
            f"fetch it elsewhere, put it at weights/{WEIGHTS} and set reference.weights: weights/{WEIGHTS}"
        ) from error


def _require(path: Path, sha256: str | None, what: str) -> None:
    found = sha256_file(path)
    if found != sha256:
        published = (
            ", which is the published file" if found == SHA256 else f"; the published file has {SHA256}"
        )
        raise UserError(
            f"{what} is TorchScript, a program, and its SHA-256 is {found}{published}: expected torchscript_sha256 "
            f"{sha256 or 'to name it'}, in the settings that load it (reference, reconstruct, evaluate)"
        )


def load_inception(folder: Path, sha256: str | None, device: torch.device) -> InceptionExtractor:
    """Load the network that `install_inception` installed.

    Raises:
        UserError: the file has another SHA-256.
    """
    _require(folder / WEIGHTS, sha256, str(folder / WEIGHTS))
    return InceptionExtractor(folder, sha256 or "", device)
