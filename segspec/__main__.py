"""``python -m segspec``."""

from segspec.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
