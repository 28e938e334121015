"""How long the HTML report takes: to write, to open in Chromium, and to zoom into.

usage: .venv/bin/python benchmarks/page.py [PAGE.html]      without a page: two images of 60,000 files each
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from selenium.webdriver import Chrome

from jetpare.views import html
from tests.browser import pages
from tests.browser.conftest import started

ROUNDS = 5
OPENED = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
ZOOMED = """
    const box = document.querySelector(".icicle .folder:nth-child(2)"), start = performance.now();
    box.click();
    document.body.getBoundingClientRect(); // lays out what is new
    return performance.now() - start;
"""


def main() -> None:
    """Print the medians."""
    with tempfile.TemporaryDirectory(prefix="jetpare-page-") as folder:
        page = Path(sys.argv[1]).resolve() if sys.argv[1:] else write(Path(folder) / "page.html")
        print(f"{page.name}: {page.stat().st_size / 1e6:.1f} MB")
        opened, zoomed = [], []
        for number in range(ROUNDS):
            with started(Path(folder) / str(number)) as browser:
                opened.append(measure(browser, page, OPENED))
                zoomed.append(float(browser.execute_script(ZOOMED)))
    print(f"opened, each time in a new browser: median {statistics.median(opened):.0f} ms, worst {max(opened):.0f} ms")
    print(f"zoomed: median {statistics.median(zoomed):.0f} ms, worst {max(zoomed):.0f} ms")


def write(page: Path) -> Path:
    """Two large images, drawn."""
    comparison, inventories = pages.large_images(pages.LARGE)
    start = time.perf_counter()
    text = html.render(comparison, inventories)
    print(f"written: {time.perf_counter() - start:.2f} s")
    page.write_text(text, encoding="utf-8")
    return page


def measure(browser: Chrome, page: Path, figure: str) -> float:
    """Milliseconds until the page was loaded, its script included."""
    browser.get(page.as_uri())
    return float(browser.execute_script(figure))


if __name__ == "__main__":
    main()
