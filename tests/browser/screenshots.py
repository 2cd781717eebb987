"""
Take the pictures of the page: `python tests/browser/screenshots.py FOLDER [README-PICTURE]`.

It runs `beaconhq demo --keep`, waits until there is something to see, and writes one PNG per width and theme,
of the page and of a drill-down. Chromium must be installed (`apt-get install chromium`).
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Optional

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from local.processes import running  # noqa: E402

from browser import chromium  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: Seconds of traffic in the pictures.
WATCH = 45
SIZES = {1280: 900, 390: 844}
#: The picture in the README.
README_WIDTH, README_THEME = 1280, "light"
ROUTE = "/reports/{report_id}"


def take(browser: Browser, url: str, folder: Path, width: int, theme: str) -> Path:
    """Take the page and a drill-down in one width and theme; return the file of the page."""
    size = {"width": width, "height": SIZES[width]}
    # "light" or "dark"; the parameter's type is a literal.
    context = browser.new_context(viewport=size, color_scheme=theme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(url)
    page.locator("#latency .js-line").first.wait_for()
    overview = folder / f"page-{width}-{theme}.png"
    page.screenshot(path=overview, full_page=True, animations="disabled")
    page.get_by_role("button", name=f"{ROUTE}: open").click()
    page.locator("#histogram .bars path").first.wait_for(state="attached")
    page.locator("#failures .error").first.wait_for()
    page.screenshot(path=folder / f"route-{width}-{theme}.png", animations="disabled")
    context.close()
    return overview


def main(folder: Path, readme: Optional[Path]) -> None:
    """Take them all."""
    path = chromium.installed()
    if path is None:
        sys.exit("no Chromium on the PATH: apt-get install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with running("-m", "beaconhq", "demo", "--keep") as demo, chromium.launched(path) as browser:
        url = demo.wait_for(r"page: +(http://127\.0\.0\.1:[0-9]+/)$")[1]
        demo.wait_for("Ctrl-C")
        time.sleep(WATCH)
        for width in SIZES:
            for theme in ("light", "dark"):
                taken = take(browser, url, folder, width, theme)
                if readme is not None and (width, theme) == (README_WIDTH, README_THEME):
                    shutil.copy(taken, readme)
    sys.stdout.write(f"pictures in {folder}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
