"""`python -m reconcile`."""

import logging
import sys

from reconcile.cli import main

if __name__ == "__main__":
    logging.getLogger("mesh").setLevel(logging.ERROR)  # who does not answer is told at the end
    sys.exit(main())
