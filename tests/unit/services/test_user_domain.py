"""The rules of accounts."""

from __future__ import annotations

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from mesh.errors import AlreadyExists, NotFound, Refused
from services.user import domain
from shop.user.v1 import user_pb2 as pb


def test_email_addresses_are_compared_without_regard_to_case() -> None:
    assert domain.email_key("Ann@Example.ORG") == domain.email_key("ann@example.org")


@pytest.mark.parametrize(
    ("wanted", "address_ids", "default"),
    [("", [], ""), ("", ["home", "work"], "home"), ("work", ["home", "work"], "work")],
)
def test_the_first_address_is_the_default_unless_one_is_chosen(
    wanted: str, address_ids: list[str], default: str
) -> None:
    assert domain.opening_default(wanted, address_ids) == default


@pytest.mark.parametrize(("default", "address_ids"), [("home", ["home"]), ("", [])])
def test_a_default_may_be_one_of_the_addresses_or_nothing_while_there_is_none(
    default: str, address_ids: list[str]
) -> None:
    domain.check_default(default, address_ids)


@pytest.mark.parametrize(
    ("default", "address_ids"), [("work", ["home"]), ("work", []), ("", ["x"])]
)
def test_any_other_default_is_refused(default: str, address_ids: list[str]) -> None:
    with pytest.raises(Refused) as refused:
        domain.check_default(default, address_ids)
    assert refused.value.reason == "UNKNOWN_DEFAULT_ADDRESS"


@pytest.mark.parametrize(
    ("default", "address_ids", "make_default", "expected"),
    [
        ("", [], False, "new"),
        ("home", ["home"], False, "home"),
        ("home", ["home"], True, "new"),
    ],
)
def test_an_added_address_becomes_the_default_if_it_is_the_first_or_asked_to(
    default: str, address_ids: list[str], make_default: bool, expected: str
) -> None:
    actual = domain.default_after_adding(default, address_ids, "new", make_default=make_default)
    assert actual == expected


def test_an_address_is_added_once() -> None:
    with pytest.raises(AlreadyExists) as refused:
        domain.default_after_adding("home", ["home"], "home", make_default=False)
    assert refused.value.reason == "ADDRESS_EXISTS"


def test_there_is_a_limit_to_addresses() -> None:
    address_ids = [f"a{n}" for n in range(domain.ADDRESSES_MAX - 1)]
    assert domain.default_after_adding("a0", address_ids, "last", make_default=False) == "a0"
    with pytest.raises(Refused) as refused:
        domain.default_after_adding("a0", [*address_ids, "last"], "more", make_default=False)
    assert refused.value.reason == "TOO_MANY_ADDRESSES"


def test_the_default_address_goes_last() -> None:
    assert domain.default_after_removing("home", ["home", "work"], "work") == "home"
    assert domain.default_after_removing("home", ["home"], "home") == ""
    with pytest.raises(Refused) as refused:
        domain.default_after_removing("home", ["home", "work"], "home")
    assert refused.value.reason == "DEFAULT_ADDRESS"


def test_only_an_address_of_the_account_can_be_removed() -> None:
    with pytest.raises(NotFound) as refused:
        domain.default_after_removing("home", ["home"], "work")
    assert refused.value.reason == "ADDRESS_NOT_FOUND"


def test_an_update_takes_what_the_mask_names_and_leaves_the_rest() -> None:
    user = pb.User(user_id="u", email="old@example.org", display_name="Old", state=pb.User.ACTIVE)
    values = pb.User(user_id="u", email="new@example.org", state=pb.User.SUSPENDED)
    renamed = domain.updated(user, values, FieldMask(paths=["email"]))
    assert (renamed.email, renamed.display_name) == ("new@example.org", "Old")
    assert renamed.state == pb.User.ACTIVE
    cleared = domain.updated(user, values, FieldMask(paths=["display_name"]))
    assert (cleared.email, cleared.display_name) == ("old@example.org", "")
    assert user.email == "old@example.org"
