"""`dvc plots` as a page that needs no network: DVC's own page loads Vega from a CDN, this one contains it.

python -m pipelines.plots diff HEAD~1        passes its arguments to `dvc plots`; writes .runs/plots/index.html, or below --out
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
SCRIPT = re.compile(r"<script\b[^>]*\bsrc=[\"']https?://[^\"']+[\"'][^>]*>\s*</script>")
FROM_THE_BUNDLE = "Object.assign(window, { vega: vega, vegaLite: vegaLite, vegaEmbed: vegaEmbed });"


def self_contained(page: str, library: str) -> str:
    """DVC's page with `library` instead of the scripts that it would load.

    Raises:
        ValueError: it loads no scripts, so this version of DVC writes another kind of page.
    """
    if not SCRIPT.search(page):
        raise ValueError("DVC's page loads no script; expected Vega from a CDN")
    inline = "<script>" + library.replace("</script", "<\\/script") + "</script>"
    first, rest = SCRIPT.split(page, maxsplit=1)
    return first + inline + SCRIPT.sub("", rest)


def vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from the package vl-convert-python."""
    import vl_convert

    return str(vl_convert.javascript_bundle(FROM_THE_BUNDLE))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.plots",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=("show", "diff"), help="the command of `dvc plots`")
    parser.add_argument(
        "--out", type=Path, default=Path(".runs/plots"), help="folder for the page (.runs/plots)"
    )
    asked, rest = parser.parse_known_args()
    command = [str(BIN / "dvc"), "plots", asked.command, *rest, "--out", str(asked.out)]
    status = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    page = asked.out / "index.html"
    if status or not page.is_file():
        sys.exit(status or f"there is nothing to plot: {' '.join(command[1:])} made no page")
    page.write_text(self_contained(page.read_text(encoding="utf-8"), vega()), encoding="utf-8")
    sys.stdout.write(f"file://{page.resolve()}\n")


if __name__ == "__main__":
    main()
