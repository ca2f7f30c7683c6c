"""A month of real orders, sent through the running system, and the books checked afterwards.

    python -m replay FILE

In the order of a run: invoices.py reads the file, plan.py decides what is placed and loaded,
loading.py and placing.py do it, readback.py asks the services what they hold, expected.py says what
they should, report.py shows both.
"""

from replay.addresses import Addresses, find
from replay.welcome import welcome

__all__ = ["Addresses", "find", "welcome"]
