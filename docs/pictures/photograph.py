"""README's picture of the report, in headless Chromium: python docs/pictures/photograph.py [PAGE]."""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PAGE, OUT = Path("artifacts/report/index.html"), Path("docs/pictures/report.png")
WIDTH, HEIGHT = 1280, 860


def photograph(page: Path) -> Image.Image:
    """The first screen of a report, in light colours."""
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        tab.goto(page.resolve().as_uri())
        tab.wait_for_function("() => document.querySelector('#which').textContent !== ''")
        png = tab.screenshot()
        browser.close()
    return Image.open(io.BytesIO(png)).convert("RGB")


if __name__ == "__main__":
    picture = photograph(Path(sys.argv[1]) if sys.argv[1:] else PAGE)
    picture.save(OUT, optimize=True)
