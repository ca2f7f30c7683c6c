"""UserService on its own database, through the whole stack."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.type.postal_address_pb2 import PostalAddress

from mesh.errors import AlreadyExists, InvalidArgument, NotFound, Refused
from mesh.metadata import KEY
from mesh.storage.keys import REPLY_LIMIT_BYTES
from services.user.service import service
from shop.user.v1 import user_pb2 as pb
from shop.user.v1.user_pb2_grpc import UserServiceStub
from tests.support.databases import Database
from tests.unit.services.serving import serving

if TYPE_CHECKING:
    from shop.user.v1.user_pb2_grpc import UserServiceAsyncStub


@pytest.fixture
async def users(database: Database) -> AsyncIterator[UserServiceAsyncStub]:
    async with serving(service, database) as channel:
        yield UserServiceStub(channel)


def address(address_id: str, region_code: str = "GB") -> pb.Address:
    place = PostalAddress(
        region_code=region_code, postal_code="N1 9GU", address_lines=["1 Main Street"]
    )
    return pb.Address(address_id=address_id, label=address_id.title(), postal_address=place)


def creation(user_id: str = "ann", *address_ids: str, **fields: str) -> pb.CreateUserRequest:
    return pb.CreateUserRequest(
        user_id=user_id,
        email=fields.pop("email", f"{user_id}@example.org"),
        addresses=[address(address_id) for address_id in address_ids],
        **fields,
    )


def update(user_id: str, **values: str) -> pb.UpdateUserRequest:
    user = pb.User(user_id=user_id)
    for field, value in values.items():
        setattr(user, field, value)
    return pb.UpdateUserRequest(user=user, update_mask=FieldMask(paths=list(values)))


async def test_a_new_account_may_order(users: UserServiceAsyncStub) -> None:
    created = await users.CreateUser(creation("ann", display_name="Ann"))
    assert (created.user_id, created.email) == ("ann", "ann@example.org")
    assert created.state == pb.User.ACTIVE
    assert created.create_time == created.update_time
    assert await users.GetUser(pb.GetUserRequest(user_id="ann")) == created


async def test_an_account_keeps_its_addresses_in_order(users: UserServiceAsyncStub) -> None:
    await users.CreateUser(creation("ann", "work", "home"))
    await users.AddAddress(pb.AddAddressRequest(user_id="ann", address=address("away", "FR")))
    user = await users.GetUser(pb.GetUserRequest(user_id="ann"))
    assert list(user.addresses) == [address("work"), address("home"), address("away", "FR")]
    assert user.default_address_id == "work"


async def test_the_default_address_may_be_chosen(users: UserServiceAsyncStub) -> None:
    request = creation("ann", "work", "home", default_address_id="home")
    assert (await users.CreateUser(request)).default_address_id == "home"
    user = await users.UpdateUser(update("ann", default_address_id="work"))
    assert user.default_address_id == "work"
    user = await users.AddAddress(
        pb.AddAddressRequest(user_id="ann", address=address("new"), make_default=True)
    )
    assert user.default_address_id == "new"
    with pytest.raises(Refused) as refused:
        await users.UpdateUser(update("ann", default_address_id="nowhere"))
    assert refused.value.reason == "UNKNOWN_DEFAULT_ADDRESS"


async def test_an_id_is_taken_once(users: UserServiceAsyncStub) -> None:
    await users.CreateUser(creation("ann"))
    with pytest.raises(AlreadyExists) as refused:
        await users.CreateUser(creation("ann", email="other@example.org"))
    assert refused.value.reason == "USER_EXISTS"


async def test_a_repeated_creation_is_answered_as_the_first(users: UserServiceAsyncStub) -> None:
    first = await users.CreateUser(creation("ann"), metadata=((KEY, "k1"),))
    assert await users.CreateUser(creation("ann"), metadata=((KEY, "k1"),)) == first


async def test_an_email_address_is_taken_once(users: UserServiceAsyncStub) -> None:
    await users.CreateUser(creation("ann"))
    await users.CreateUser(creation("bob"))
    for request in (
        users.CreateUser(creation("eve", email="ANN@example.org")),
        users.UpdateUser(update("bob", email="Ann@Example.org")),
    ):
        with pytest.raises(AlreadyExists) as refused:
            await request
        assert refused.value.reason == "EMAIL_TAKEN"
        assert "ann" not in refused.value.message.lower()  # no personal data in refusals
    respelled = await users.UpdateUser(update("ann", email="Ann@Example.org"))
    assert respelled.email == "Ann@Example.org"


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetUser", pb.GetUserRequest(user_id="nobody")),
        ("UpdateUser", update("nobody", display_name="x")),
        ("SuspendUser", pb.SuspendUserRequest(user_id="nobody")),
        ("ReactivateUser", pb.ReactivateUserRequest(user_id="nobody")),
        ("AddAddress", pb.AddAddressRequest(user_id="nobody", address=address("home"))),
        ("RemoveAddress", pb.RemoveAddressRequest(user_id="nobody", address_id="home")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_unknown_account_is_not_found(
    users: UserServiceAsyncStub, method: str, request_: Message
) -> None:
    with pytest.raises(NotFound) as refused:
        await getattr(users, method)(request_)
    assert refused.value.reason == "USER_NOT_FOUND"


async def test_a_refusal_does_not_repeat_an_endless_id(users: UserServiceAsyncStub) -> None:
    with pytest.raises(NotFound) as refused:
        await users.GetUser(pb.GetUserRequest(user_id="x" * 100_000))
    assert len(refused.value.message) < 100


async def test_an_update_changes_what_the_mask_names(users: UserServiceAsyncStub) -> None:
    created = await users.CreateUser(creation("ann", display_name="Ann"))
    renamed = await users.UpdateUser(update("ann", display_name="Anna"))
    assert (renamed.display_name, renamed.email) == ("Anna", "ann@example.org")
    assert renamed.update_time.ToNanoseconds() > created.update_time.ToNanoseconds()
    assert await users.UpdateUser(update("ann", display_name="Anna")) == renamed
    with pytest.raises(InvalidArgument):
        await users.UpdateUser(
            pb.UpdateUserRequest(
                user=pb.User(user_id="ann", state=pb.User.SUSPENDED),
                update_mask=FieldMask(paths=["state"]),
            )
        )


async def test_suspending_and_reactivating_are_idempotent(
    users: UserServiceAsyncStub, database: Database
) -> None:
    await users.CreateUser(creation("ann"))
    suspend = pb.SuspendUserRequest(user_id="ann", reason="chargeback")
    suspended = await users.SuspendUser(suspend)
    assert suspended.state == pb.User.SUSPENDED
    assert await users.SuspendUser(suspend) == suspended
    active = await users.ReactivateUser(pb.ReactivateUserRequest(user_id="ann"))
    assert active.state == pb.User.ACTIVE
    assert await users.ReactivateUser(pb.ReactivateUserRequest(user_id="ann")) == active
    query = "SELECT user_id, state, reason FROM user_state_changes ORDER BY time"
    assert await database.rows(query, "service") == [
        ("ann", pb.User.SUSPENDED, "chargeback"),
        ("ann", pb.User.ACTIVE, ""),
    ]


async def test_the_default_address_is_removed_last(users: UserServiceAsyncStub) -> None:
    await users.CreateUser(creation("ann", "home", "work"))
    remove_home = pb.RemoveAddressRequest(user_id="ann", address_id="home")
    with pytest.raises(Refused) as refused:
        await users.RemoveAddress(remove_home)
    assert refused.value.reason == "DEFAULT_ADDRESS"
    await users.RemoveAddress(pb.RemoveAddressRequest(user_id="ann", address_id="work"))
    assert (await users.RemoveAddress(remove_home)).default_address_id == ""
    user = await users.GetUser(pb.GetUserRequest(user_id="ann"))
    assert not user.addresses
    with pytest.raises(NotFound) as missing:
        await users.RemoveAddress(remove_home)
    assert missing.value.reason == "ADDRESS_NOT_FOUND"


async def test_accounts_are_listed_page_by_page(users: UserServiceAsyncStub) -> None:
    for number in range(7):
        await users.CreateUser(creation(f"u{number}"))
    await users.SuspendUser(pb.SuspendUserRequest(user_id="u3"))
    pages, token = [], ""
    while True:
        reply = await users.ListUsers(
            pb.ListUsersRequest(page_size=2, page_token=token, state=pb.User.ACTIVE)
        )
        pages.append([user.user_id for user in reply.users])
        token = reply.next_page_token
        if not token:
            break
    assert pages == [["u0", "u1"], ["u2", "u4"], ["u5", "u6"]]


async def test_accounts_are_found_by_email(users: UserServiceAsyncStub) -> None:
    await users.CreateUser(creation("ann"))
    await users.CreateUser(creation("bob"))
    request = pb.ListUsersRequest(email="ANN@example.org")
    assert [user.user_id for user in (await users.ListUsers(request)).users] == ["ann"]
    request.state = pb.User.SUSPENDED
    assert not (await users.ListUsers(request)).users


async def test_the_longest_reply_of_a_change_can_be_kept(users: UserServiceAsyncStub) -> None:
    wide = "\N{CJK UNIFIED IDEOGRAPH-20000}" * 200
    place = PostalAddress(region_code="GB", address_lines=[wide] * 10, recipients=[wide] * 10)
    addresses = [pb.Address(address_id=f"a{n}", postal_address=place) for n in range(100)]
    reply = await users.CreateUser(
        pb.CreateUserRequest(
            user_id="u" * 64,
            email=f"{'e' * 64}@{'.'.join(['d' * 62] * 3)}",
            display_name=wide,
            addresses=addresses,
        )
    )
    assert reply.ByteSize() < REPLY_LIMIT_BYTES / 16
    user = await users.GetUser(pb.GetUserRequest(user_id="u" * 64))
    assert list(user.addresses) == addresses
    assert user.ByteSize() < 4 * 1024 * 1024  # what gRPC receives by default
