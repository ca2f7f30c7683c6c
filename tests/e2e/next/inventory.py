"""The next inventory: its schema has one migration more, in a folder that the test names."""

from __future__ import annotations

import os
from pathlib import Path

from services.inventory.service import service

service.schema = Path(os.environ["NEXT_SCHEMA"])

__all__ = ["service"]
