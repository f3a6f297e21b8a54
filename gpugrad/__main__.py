"""``python -m gpugrad``: see gpugrad/command."""
from __future__ import annotations

import sys

from gpugrad.command.line import main

if __name__ == "__main__":
    sys.exit(main())
