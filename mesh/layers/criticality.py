"""Criticality: what is given up last, and what first, when there is more to do than can be done.

Whoever begins something says how much it matters; what is called for its sake matters as much.
(Google, *Site Reliability Engineering*, 2016, chapter 21.)
"""

from __future__ import annotations

from collections.abc import Mapping

from ..call import Call, Criticality, Prepare
from ..metadata import CRITICALITY
from ..scope import scope

_KNOWN = {one.value: one for one in Criticality}


def criticality_in(metadata: Mapping[str, str]) -> Criticality:
    """Return what *metadata* says; `DEFAULT` if it says nothing that is known."""
    return _KNOWN.get(metadata.get(CRITICALITY, ""), Criticality.DEFAULT)


class HandOnCriticality(Prepare):
    """Client: a call is as critical as the one being served, or else as its policy says."""

    def __init__(self, own: Criticality) -> None:
        self._own = own

    def prepare(self, call: Call) -> Call:
        """Say so, unless the caller has or there is nothing to say."""
        inherited = scope.get().criticality
        rank = self._own if inherited is Criticality.DEFAULT else inherited
        if rank is Criticality.DEFAULT or CRITICALITY in call.metadata:
            return call
        return call.replace(metadata={**call.metadata, CRITICALITY: rank.value})
