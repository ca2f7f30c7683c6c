"""Who calls: genuine tokens only, and undoing is for the orchestrator."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from mesh.call import NOBODY, Principal
from mesh.errors import MeshError, Outcome, PermissionDenied, Unauthenticated
from mesh.layers.identity import ORCHESTRATOR, Authenticate, Identify, Identities, make_token
from mesh.metadata import TOKEN, UNDO_OF, VOID
from tests.support.echo import COUNT, EchoReply, call_of, requests_of
from tests.support.target import Target

SECRET = "of this test"
ORDER = Principal("order")
ENGINE = Principal("orchestrator", frozenset({ORCHESTRATOR}))
SOMEBODY = Principal("local", frozenset({"sales"}))
KNOWN = {principal.name: principal for principal in (ORDER, ENGINE)}
STRICT = Identities(SECRET, KNOWN)
OPEN = Identities(SECRET, KNOWN, anonymous=SOMEBODY)

FORGED = {
    "another secret's": make_token("guessed", "order"),
    "another name's": "orchestrator." + make_token(SECRET, "order").partition(".")[2],
    "no signature": "order",
    "an empty signature": "order.",
    "somebody unknown": make_token(SECRET, "mallory"),
    "cut short": make_token(SECRET, "order")[:-1],
    "with something behind it": make_token(SECRET, "order") + "0",
    "not ASCII": "order.é",
    "only a dot": ".",
}


def test_a_token_tells_who_it_is() -> None:
    assert STRICT.of(make_token(SECRET, "order")) == ORDER
    assert OPEN.of(make_token(SECRET, "orchestrator")) == ENGINE


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("identities", [STRICT, OPEN], ids=["strict", "open"])
def test_no_forged_token_is_taken_not_even_as_nobodys(identities: Identities, token: str) -> None:
    with pytest.raises(Unauthenticated):
        identities.of(token)


def test_without_a_secret_no_token_is_genuine() -> None:
    with pytest.raises(Unauthenticated):
        Identities("", KNOWN).of(make_token("", "order"))


def test_a_caller_without_a_token_is_the_anonymous_one_if_there_is_one() -> None:
    assert OPEN.of("") == SOMEBODY
    with pytest.raises(Unauthenticated):
        STRICT.of("")


def test_the_secret_is_not_shown() -> None:
    assert SECRET not in repr(STRICT)


async def test_the_handler_knows_its_caller() -> None:
    target = Target()
    call = call_of(metadata={TOKEN: make_token(SECRET, "order")})
    await Authenticate(STRICT)(target.unary)(call)
    assert target.calls[0].principal == ORDER


async def test_who_is_not_known_is_not_served() -> None:
    target = Target()
    for send in (
        Authenticate(STRICT)(target.unary),
        lambda call: anext(Authenticate(STRICT).stream(target.stream)(call, requests_of())),
    ):
        with pytest.raises(Unauthenticated) as caught:
            await send(call_of(COUNT, metadata={TOKEN: "x.y"}))
        assert status(caught.value) == (StatusCode.UNAUTHENTICATED, Outcome.NOT_EXECUTED)
    assert not target.calls


@pytest.mark.parametrize("token", ["", make_token(SECRET, "order")], ids=["anonymous", "order"])
@pytest.mark.parametrize("asked", [{UNDO_OF: "/a.B/Do key"}, {VOID: "1"}], ids=["undo", "void"])
async def test_nobody_but_an_orchestrator_may_undo(token: str, asked: dict[str, str]) -> None:
    target = Target()
    with pytest.raises(PermissionDenied) as caught:
        await Authenticate(OPEN)(target.unary)(call_of(metadata={TOKEN: token, **asked}))
    assert status(caught.value) == (StatusCode.PERMISSION_DENIED, Outcome.NOT_EXECUTED)
    assert not target.calls


async def test_an_orchestrator_may_undo() -> None:
    target = Target(EchoReply())
    metadata = {TOKEN: make_token(SECRET, "orchestrator"), UNDO_OF: "/a.B/Do key"}
    await Authenticate(STRICT)(target.unary)(call_of(metadata=metadata))
    assert target.calls[0].principal == ENGINE


async def test_a_client_says_who_it_is() -> None:
    target = Target()
    await Identify("order.xyz")(target.unary)(call_of(metadata={"x-other": "kept"}))
    await Identify("")(target.unary)(call_of())
    assert [call.metadata for call in target.calls] == [{"x-other": "kept", TOKEN: "order.xyz"}, {}]
    assert target.calls[0].principal == NOBODY


def status(error: MeshError) -> tuple[StatusCode, Outcome]:
    return error.status, error.outcome
