"""img2dataset's resizer (version 1.47, img2dataset/resizer.py, MIT licence), its lines that a centre crop to JPEG runs through.

The package itself would bring pandas, pyarrow and wandb. Options are its defaults: area interpolation when shrinking,
Lanczos when growing, quality 95, no pass-through; what the C libraries print is suppressed, as it does for each image.
"""

import os
from types import TracebackType

import numpy as np

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # or its import asks the network

import albumentations as A
import cv2


class SuppressStdoutStderr:
    """Both to /dev/null within the block."""

    def __init__(self) -> None:
        self.null_fds = [os.open(os.devnull, os.O_RDWR) for x in range(2)]
        self.save_fds = [os.dup(1), os.dup(2)]

    def __enter__(self) -> None:
        """Begin."""
        os.dup2(self.null_fds[0], 1)
        os.dup2(self.null_fds[1], 2)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        os.dup2(self.save_fds[0], 1)
        os.dup2(self.save_fds[1], 2)
        for fd in self.null_fds + self.save_fds:
            os.close(fd)


def resize(data: bytes, image_size: int) -> bytes:
    """`Resizer(image_size, "center_crop", False)` on the bytes of a file; ValueError where it is not an image."""
    with SuppressStdoutStderr():
        cv2.setNumThreads(1)
        img = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if img is None:
            raise ValueError("Image decoding error")
        if len(img.shape) == 3 and img.shape[-1] == 4:
            alpha = img[:, :, 3, np.newaxis]
            img = alpha / 255 * img[..., :3] + 255 - alpha
            img = np.rint(img.clip(min=0, max=255)).astype(np.uint8)
        original_height, original_width = img.shape[:2]
        downscale = min(original_width, original_height) > image_size
        interpolation = cv2.INTER_AREA if downscale else cv2.INTER_LANCZOS4
        smallest_max = A.SmallestMaxSize(max_size=image_size, interpolation=interpolation, p=1.0)
        img = smallest_max(image=img)["image"]
        center_crop = A.CenterCrop(height=image_size, width=image_size)
        img = center_crop(image=img)["image"]
        made: bytes = cv2.imencode(".jpg", img, params=[int(cv2.IMWRITE_JPEG_QUALITY), 95])[1].tobytes()
        return made
