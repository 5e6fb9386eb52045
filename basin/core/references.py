"""Where a method comes from: every component carries its citations, and reports print them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Reference", "cite"]


@dataclass(frozen=True)
class Reference:
    """One publication. Components hold them as ``references: ClassVar[tuple[Reference, ...]]``.

    Example:
        >>> str(Reference("Estimation by score matching", ("A. Hyvärinen",), 2005, "https://x.org"))
        'A. Hyvärinen (2005). Estimation by score matching. https://x.org'
    """

    title: str
    authors: tuple[str, ...]
    year: int
    url: str

    def __str__(self) -> str:
        return f"{', '.join(self.authors)} ({self.year}). {self.title}. {self.url}"


def cite(*components: object) -> tuple[Reference, ...]:
    """The references of the components (objects or classes), each once, in order of appearance."""
    found: dict[Reference, None] = {}
    for component in components:
        for reference in getattr(component, "references", ()):
            found[reference] = None
    return tuple(found)
