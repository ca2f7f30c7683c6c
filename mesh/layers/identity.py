"""Who calls: tokens between the processes of one system.

A token is the process's name and its HMAC under the secret that the processes of one system
share (the supervisor makes a new one each time). In the `dev` profile a caller without a token
is `local`, a developer with grpcurl, and may do what a person at a desk may; undoing is for the
orchestrator alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ..call import Call, Criticality, Prepare, Principal
from ..errors import PermissionDenied, Unauthenticated
from ..metadata import TOKEN, UNDO_OF, VOID
from ..scope import scope
from .criticality import criticality_in

#: May undo what others did: the saga engine's role.
ORCHESTRATOR = "orchestrator"
#: May look into the mesh's own records and set right by hand what stands still.
OPERATOR = "operator"


def make_token(secret: str, name: str) -> str:
    """Return the token of the process called *name*."""
    return f"{name}.{hmac.new(secret.encode(), name.encode(), 'sha256').hexdigest()}"


def require(principal: Principal, role: str) -> None:
    """Let only holders of *role* go on.

    Raises:
        PermissionDenied: *principal* lacks it.
    """
    if role not in principal.roles:
        raise PermissionDenied(f"{principal.name or 'an unknown caller'} lacks the role {role!r}")


@dataclass(frozen=True)
class Identities:
    """Who is known, by name. `anonymous` is who comes without a token, if anybody may."""

    secret: str = field(default="", repr=False)
    known: Mapping[str, Principal] = field(default_factory=dict)
    anonymous: Principal | None = None

    @cached_property
    def _by_token(self) -> Mapping[str, Principal]:
        """Who is known, by token; nobody without a secret.

        A look-up tells nothing of a token by the time it takes: it compares texts only where their
        hashes, which are keyed for each process, are equal. It costs a fifth of making and
        comparing the HMAC in each call.
        """
        if not self.secret:
            return {}
        return {make_token(self.secret, name): who for name, who in self.known.items()}

    def of(self, token: str) -> Principal:
        """Return whose *token* it is.

        Raises:
            Unauthenticated: nobody's.
        """
        principal = self._by_token.get(token) if token else self.anonymous
        if principal is None:
            raise Unauthenticated("no caller of this system has that token")
        return principal


class Authenticate(Prepare):
    """Server: establish the principal; only an orchestrator may undo.

    How critical a call is, only a process of the system may say.
    """

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    def prepare(self, call: Call) -> Call:
        """Set the call's principal."""
        principal = self._identities.of(call.metadata.get(TOKEN, ""))
        undoes = UNDO_OF in call.metadata or VOID in call.metadata
        if undoes and ORCHESTRATOR not in principal.roles:
            raise PermissionDenied("only an orchestrator may undo")
        peer = principal is not self._identities.anonymous
        rank = criticality_in(call.metadata) if peer else Criticality.DEFAULT
        scope.set(scope.get()._replace(criticality=rank, principal=principal.name))
        return call.replace(principal=principal)


class Identify(Prepare):
    """Client: say who we are."""

    def __init__(self, token: str) -> None:
        self._token = token
        self.needed = bool(token)

    def prepare(self, call: Call) -> Call:
        """Add our token."""
        return call.replace(metadata={**call.metadata, TOKEN: self._token})
