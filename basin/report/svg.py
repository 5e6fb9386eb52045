"""A matplotlib figure as SVG that belongs on the page: it takes the page's colours and font.

Text stays text (searchable, selectable); ink becomes ``currentColor`` and rules a CSS variable, so
that one picture serves light and dark. Scatter plots and maps are PNG inside the SVG.
"""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING, Any

from basin.report.figures import INK, MUTED, RULE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure_to_svg"]

COLORS = {INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)"}


def figure_to_svg(figure: Figure, *, name: str, alternative: str) -> str:
    """``<svg role="img" aria-label=...>`` without prolog, scripts, metadata or anything fetched.

    Args:
        figure: any figure.
        name: unique on the page; identifiers inside the picture are derived from it.
        alternative: what the picture shows, for those who do not see it.
    """
    import matplotlib

    buffer = io.BytesIO()
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.sans-serif": ["DejaVu Sans"],
    }
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing, dpi=160)
    text = buffer.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(
        r"<style[^>]*>.*?</style>", "", text, count=1, flags=re.DOTALL
    )  # it says "*{...}"
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    for color, replacement in COLORS.items():
        text = re.sub(rf"(fill|stroke): {color}\b", rf"\1: {replacement}", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    width = float(size.group(1)) if size else 400.0
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{size.group(0)[9:-1] if size else ""}" role="img" '
        f'aria-label="{html.escape(alternative, quote=True)}" '
        f'style="max-width:{width * 1.55:.0f}px">'
    )
    return opening + text[text.index(">", text.index("<svg")) + 1 :].strip()
