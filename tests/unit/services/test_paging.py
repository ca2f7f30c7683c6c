"""Page tokens."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import InvalidArgument
from services.shared.paging import Page, next_token, open_page
from shop.inventory.v1.inventory_pb2 import ListStockRequest
from shop.payment.v1.payment_pb2 import ListPaymentsRequest


def test_the_first_page_and_its_size() -> None:
    assert open_page(ListStockRequest()) == Page(size=50, after="")
    assert open_page(ListStockRequest(page_size=7)) == Page(size=7, after="")
    assert open_page(ListStockRequest(page_size=5000)).size == 1000
    assert open_page(ListStockRequest(page_size=-1), size_default=9).size == 9


@given(st.text(min_size=1, max_size=64))
def test_a_token_carries_its_key_safely_in_a_url(key: str) -> None:
    token = next_token(ListStockRequest(in_stock=True), key)
    assert token.replace("-", "").replace("_", "").isalnum()
    assert open_page(ListStockRequest(in_stock=True, page_token=token)).after == key


def test_the_size_may_change_from_page_to_page() -> None:
    token = next_token(ListStockRequest(page_size=10), "A")
    assert open_page(ListStockRequest(page_size=20, page_token=token)) == Page(20, "A")


def test_a_token_is_for_one_list_and_its_filters() -> None:
    token = next_token(ListPaymentsRequest(user_id="ann"), "A")
    for request in (
        ListPaymentsRequest(user_id="bob", page_token=token),
        ListPaymentsRequest(page_token=token),
        ListStockRequest(page_token=token),
    ):
        with pytest.raises(InvalidArgument) as refused:
            open_page(request)
        assert refused.value.violations[0][0] == "page_token"


@pytest.mark.parametrize(
    "token",
    ["x", "!!!!", "ünïcode", "AAAA", base64.urlsafe_b64encode(b"12345678\xff").decode()],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        open_page(ListStockRequest(page_token=token))
    assert refused.value.violations[0][0] == "page_token"


def test_a_page_is_cut_where_another_row_follows() -> None:
    page = Page(size=2, after="")
    assert page.cut([("a", 1), ("b", 2), ("c", 3)]) == ([("a", 1), ("b", 2)], "b")
    assert page.cut([("a", 1), ("b", 2)]) == ([("a", 1), ("b", 2)], "")
    assert page.limit == 3
    assert next_token(ListStockRequest(), "") == ""
