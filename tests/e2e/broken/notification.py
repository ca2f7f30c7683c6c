"""A notification service that cannot write mails as long as a file is there, and soon gives up."""

from __future__ import annotations

import os
from pathlib import Path
from string import Template

from mesh.events import consumer
from services.notification import domain
from services.notification.service import service

BROKEN = Path(os.environ["BROKEN"])


class Templates(dict[str, Template]):
    """Those of mails, unless that is broken."""

    def __getitem__(self, name: str) -> Template:
        if BROKEN.exists():
            raise KeyError("a word that nobody shall read")
        return super().__getitem__(name)


consumer.ATTEMPTS_MAX = 2  # the backoff before the tenth takes a minute
domain.TEMPLATES = Templates(domain.TEMPLATES)

__all__ = ["service"]
