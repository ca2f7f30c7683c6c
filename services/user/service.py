"""UserService: one function for each method of `shop.user.v1`."""

from __future__ import annotations

from pathlib import Path

from mesh.service import Service
from mesh.storage.port import Tx
from services.shared.paging import next_token, open_page
from shop.user.v1 import user_pb2 as pb
from shop.user.v1.events_pb2 import UserCreated, UserEvent, UserStateChanged

from . import domain, records

service: Service[None] = Service(
    pb.DESCRIPTOR.services_by_name["UserService"],
    schema=Path(__file__).parent / "schema",
)


@service.rpc
async def create_user(tx: Tx, request: pb.CreateUserRequest) -> pb.User:
    """Open an account, with its first addresses."""
    address_ids = [address.address_id for address in request.addresses]
    user = await records.insert(
        tx,
        pb.User(
            user_id=request.user_id,
            email=request.email,
            display_name=request.display_name,
            state=pb.User.ACTIVE,
            default_address_id=domain.opening_default(request.default_address_id, address_ids),
        ),
    )
    await records.add_addresses(tx, request.user_id, request.addresses)
    created = UserCreated(state=user.state)
    await tx.publish(UserEvent(user_id=user.user_id, time=user.create_time, created=created))
    return user


@service.rpc
async def get_user(tx: Tx, request: pb.GetUserRequest) -> pb.User:
    """Return a whole account."""
    return await records.whole(tx, request.user_id)


@service.rpc
async def list_users(tx: Tx, request: pb.ListUsersRequest) -> pb.ListUsersResponse:
    """Return a page of accounts."""
    page = open_page(request)
    rows, last = page.cut(
        await records.of_email(tx, request.email, request.state)
        if request.email
        else await records.by_id(tx, page, request.state)
    )
    return pb.ListUsersResponse(
        users=[user for _, user in rows], next_page_token=next_token(request, last)
    )


@service.rpc
async def update_user(tx: Tx, request: pb.UpdateUserRequest) -> pb.User:
    """Change what the mask names."""
    user = await records.brief(tx, request.user.user_id)
    changed = domain.updated(user, request.user, request.update_mask)
    if changed.default_address_id != user.default_address_id:
        addresses = await records.address_ids(tx, user.user_id)
        domain.check_default(changed.default_address_id, addresses)
    return user if changed == user else await records.save(tx, changed)


@service.rpc
async def suspend_user(tx: Tx, request: pb.SuspendUserRequest) -> pb.User:
    """Bar an account from ordering."""
    return await _enter(tx, request.user_id, pb.User.SUSPENDED, request.reason)


@service.rpc
async def reactivate_user(tx: Tx, request: pb.ReactivateUserRequest) -> pb.User:
    """Let an account order again."""
    return await _enter(tx, request.user_id, pb.User.ACTIVE)


@service.rpc
async def add_address(tx: Tx, request: pb.AddAddressRequest) -> pb.User:
    """Add an address, and choose it as the default if asked to or if it is the first."""
    user = await records.brief(tx, request.user_id)
    user.default_address_id = domain.default_after_adding(
        user.default_address_id,
        await records.address_ids(tx, user.user_id),
        request.address.address_id,
        make_default=request.make_default,
    )
    await records.add_addresses(tx, user.user_id, [request.address])
    return await records.save(tx, user)


@service.rpc
async def remove_address(tx: Tx, request: pb.RemoveAddressRequest) -> pb.User:
    """Remove an address; the default one last."""
    user = await records.brief(tx, request.user_id)
    user.default_address_id = domain.default_after_removing(
        user.default_address_id,
        await records.address_ids(tx, user.user_id),
        request.address_id,
    )
    await records.remove_address(tx, user.user_id, request.address_id)
    return await records.save(tx, user)


async def _enter(tx: Tx, user_id: str, state: pb.User.State.ValueType, reason: str = "") -> pb.User:
    user = await records.brief(tx, user_id)
    if user.state == state:
        return user
    user.state = state
    await records.record_state(tx, user_id, state, reason)
    user = await records.save(tx, user)
    changed = UserStateChanged(state=state)
    await tx.publish(UserEvent(user_id=user_id, time=user.update_time, state_changed=changed))
    return user
