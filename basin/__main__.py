"""``python -m basin`` is the same as ``basin``."""

from __future__ import annotations

from basin.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
