"""The laptop orders, as scenarios: placing, refusing, remembering, reading, scanning."""

from __future__ import annotations

import pytest

from trio_pb import canonical
from trio_pb.app.machine import RejectedError
from trio_pb.app.orders import (
    COUNT_MAX,
    ID_MAX,
    NO_ORDER,
    PLACE,
    READ,
    RECENT,
    SCAN,
    CustomerRecord,
    OrderReceipt,
    Orders,
    PlaceOrder,
    ReadCustomer,
    ReadRecent,
    RecentOrder,
    RecentPage,
    ScanCustomers,
    ScanPage,
    decode_place,
    decode_receipt,
    decode_recent_page,
    decode_record,
    decode_scan_page,
    encode_place,
    encode_read,
    encode_recent,
    encode_scan,
)
from trio_pb.app.snapshots import SNAPSHOT_IDLE_TICKS, SNAPSHOTS_MAX
from trio_pb.errors import ConfigError, SnapshotGoneError

CLIENT = b"c" * 16
START_NS = 1_700_000_000_000_000_000


class Shop:
    """Orders with an op counter and a clock in front."""

    def __init__(self, recent_orders_max: int = 1000) -> None:
        self.orders = Orders(recent_orders_max=recent_orders_max)
        self.op = 0
        self.now_tick = 0

    def place(
        self, customer: int, number: int, laptop: str = "x1", *, overwrite: bool = False, key: bytes | None = None
    ) -> OrderReceipt:
        """Place one order in an op of its own."""
        return decode_receipt(self.command(PLACE, encode_place(PlaceOrder(customer, number, laptop, overwrite, key))))

    def command(self, code: int, body: bytes) -> bytes:
        """Apply one command in an op of its own; return its result."""
        self.op += 1
        return self.orders.apply(self.op, START_NS + self.op, [(0, CLIENT, code, body)])[0]

    def ask(self, code: int, body: bytes, cursor: bytes = b"") -> tuple[bytes, bytes]:
        """Ask one query; return result and cursor."""
        ((_, result, next_cursor, error),) = self.orders.query(self.op, self.now_tick, [(1, 1, code, body, cursor)])
        if error:
            assert error == "snapshot_gone"
            raise SnapshotGoneError(error)
        return result, next_cursor

    def read(self, customer: int) -> CustomerRecord:
        """Read one record."""
        return decode_record(self.ask(READ, encode_read(ReadCustomer(customer)))[0])

    def scan(self, start: int, count: int, cursor: bytes = b"") -> tuple[ScanPage, bytes]:
        """Read one page of records."""
        result, cursor = self.ask(SCAN, encode_scan(ScanCustomers(start, count)), cursor)
        return decode_scan_page(result), cursor

    def recent(self, position: int, count: int, cursor: bytes = b"") -> tuple[RecentPage, bytes]:
        """Read one page of recent orders."""
        result, cursor = self.ask(RECENT, encode_recent(ReadRecent(position, count)), cursor)
        return decode_recent_page(result), cursor


# --- Placing ----------------------------------------------------------------------------------


def test_a_placed_order_is_the_customers_last() -> None:
    """The receipt names the order and its op, and a read finds it with its time."""
    shop = Shop()
    assert shop.place(7, 1, "thinkpad") == OrderReceipt(7, 1, "thinkpad", duplicate=False, op=1)
    assert shop.place(7, 5, "framework") == OrderReceipt(7, 5, "framework", duplicate=False, op=2)
    assert shop.read(7) == CustomerRecord(7, 5, 2, "framework", op=2, timestamp=START_NS + 2)


def test_an_unknown_customer_has_last_order_minus_one() -> None:
    """A read of nobody is not an error, and creates nobody."""
    shop = Shop()
    before = shop.orders.digest()
    assert shop.read(7) == CustomerRecord(7, NO_ORDER, 0, "", 0, 0)
    assert shop.orders.digest() == before
    assert shop.place(7, 0).order_number == 0


@pytest.mark.parametrize("number", [5, 4, 0])
def test_a_number_not_above_the_last_is_refused_and_changes_nothing(number: int) -> None:
    """The refusal names the last order, so that the customer can go on from there."""
    shop = Shop()
    shop.place(7, 5)
    before = shop.orders.digest()
    with pytest.raises(RejectedError, match="customer 7's last order, 5") as caught:
        shop.place(7, number)
    assert (caught.value.name, caught.value.field) == ("order_number_not_above_last", "order_number")
    assert shop.orders.digest() == before
    assert shop.place(8, number).op == 3


def test_lab_mode_overwrites_any_number() -> None:
    """With overwrite the number replaces the last one, up or down; without, the new last one counts."""
    shop = Shop()
    shop.place(7, 5)
    shop.place(7, 5, "again", overwrite=True)
    shop.place(7, 2, "down", overwrite=True)
    assert shop.read(7) == CustomerRecord(7, 2, 3, "down", op=3, timestamp=START_NS + 3)
    assert shop.place(7, 3).op == 4


def test_requests_of_one_op_are_executed_in_order_each_at_its_own_time() -> None:
    """A batch is a sequence: what its first request did, its second sees."""
    orders = Orders()
    bodies = [encode_place(PlaceOrder(7, number, "x1")) for number in (1, 2, 2)]
    results = orders.apply(9, START_NS, [(index, CLIENT, PLACE, body) for index, body in enumerate(bodies)])
    assert [decode_receipt(result).op for result in results[:2]] == [9, 9]
    with pytest.raises(RejectedError, match="order_number_not_above_last"):
        decode_receipt(results[2])
    ((_, result, _, _),) = orders.query(9, 0, [(1, 1, READ, encode_read(ReadCustomer(7)), b"")])
    assert decode_record(result).timestamp == START_NS + 1


def test_the_greatest_values_fit() -> None:
    """Bounds are inclusive and survive the packed record."""
    shop = Shop()
    laptop, key = "\u20ac" * 21 + "x", b"k" * 64  # 64 bytes of UTF-8 each.
    shop.place(ID_MAX, ID_MAX, laptop, key=key)
    assert shop.place(ID_MAX, ID_MAX, laptop, key=key).duplicate
    record = shop.read(ID_MAX)
    assert (record.customer_id, record.last_order, record.laptop_type) == (ID_MAX, ID_MAX, laptop)
    assert shop.scan(ID_MAX, 1)[0].records == (record,)


# --- Idempotency keys -------------------------------------------------------------------------


def test_a_known_key_answers_the_first_receipt_as_a_duplicate() -> None:
    """Resending an order under its key is safe, also when other orders came in between."""
    shop = Shop()
    first = shop.place(7, 1, "x1", key=b"mine")
    assert not first.duplicate
    for number in (2, 3):
        shop.place(7, number)
    before = shop.orders.digest()
    again = shop.place(7, 1, "x1", key=b"mine")
    assert again == OrderReceipt(7, 1, "x1", duplicate=True, op=first.op)
    assert shop.orders.digest() == before


@pytest.mark.parametrize(("number", "laptop"), [(2, "x1"), (1, "x2")])
def test_a_known_key_with_other_content_is_refused(number: int, laptop: str) -> None:
    """A key names one order for good; the refusal says which."""
    shop = Shop()
    shop.place(7, 1, "x1", key=b"mine")
    shop.place(7, 10)  # So that the ring has to know, not the record.
    before = shop.orders.digest()
    for overwrite in (False, True):
        with pytest.raises(RejectedError, match=r"order 1 of 'x1', op 1") as caught:
            shop.place(7, number, laptop, key=b"mine", overwrite=overwrite)
        assert (caught.value.name, caught.value.field) == ("idempotency_key_reused", "idempotency_key")
    assert shop.orders.digest() == before


def test_keys_belong_to_their_customer() -> None:
    """Two customers may use the same key for orders of their own."""
    shop = Shop()
    shop.place(7, 1, key=b"mine")
    assert not shop.place(8, 1, key=b"mine").duplicate
    assert shop.place(7, 1, key=b"mine").op == 1
    assert shop.place(8, 1, key=b"mine").op == 2


def test_the_key_of_the_last_order_outlives_the_ring() -> None:
    """However many others ordered since, a customer's last order is recognised."""
    shop = Shop(recent_orders_max=3)
    shop.place(7, 1, key=b"mine")
    for customer in range(100, 110):
        shop.place(customer, 1)
    assert shop.place(7, 1, key=b"mine") == OrderReceipt(7, 1, "x1", duplicate=True, op=1)


def test_a_forgotten_key_never_places_twice() -> None:
    """Out of the ring and not the last: the order number refuses it."""
    shop = Shop(recent_orders_max=3)
    shop.place(7, 1, key=b"mine")
    shop.place(7, 2, key=b"next")
    shop.place(8, 1)
    assert shop.place(7, 1, key=b"mine").duplicate  # Still among the last three.
    shop.place(8, 2)
    with pytest.raises(RejectedError, match="order_number_not_above_last"):
        shop.place(7, 1, key=b"mine")
    assert shop.read(7).orders == 2


def test_a_forgotten_key_may_name_a_new_order() -> None:
    """The ring forgets the old use and remembers the new one."""
    shop = Shop(recent_orders_max=2)
    shop.place(7, 1, key=b"mine")
    shop.place(7, 2)
    shop.place(7, 3)
    assert not shop.place(7, 4, key=b"mine").duplicate
    shop.place(7, 5)
    assert shop.place(7, 4, key=b"mine") == OrderReceipt(7, 4, "x1", duplicate=True, op=4)


# --- Bad input --------------------------------------------------------------------------------


GOOD = (7, 1, "x1", False, None)


@pytest.mark.parametrize(
    ("field", "position", "value"),
    [
        ("customer_id", 0, -1),
        ("customer_id", 0, ID_MAX + 1),
        ("customer_id", 0, True),
        ("customer_id", 0, "7"),
        ("customer_id", 0, None),
        ("order_number", 1, -1),
        ("order_number", 1, ID_MAX + 1),
        ("order_number", 1, b"1"),
        ("order_number", 1, [1]),
        ("laptop_type", 2, ""),
        ("laptop_type", 2, "x" * 65),
        ("laptop_type", 2, "\u20ac" * 22),
        ("laptop_type", 2, b"x1"),
        ("laptop_type", 2, 3),
        ("overwrite", 3, 0),
        ("overwrite", 3, None),
        ("idempotency_key", 4, b""),
        ("idempotency_key", 4, b"k" * 65),
        ("idempotency_key", 4, "mine"),
        ("idempotency_key", 4, False),
    ],
)
def test_a_bad_order_names_the_field_and_changes_nothing(field: str, position: int, value: object) -> None:
    """Each field is checked for type and range before anything is written."""
    shop = Shop()
    before = shop.orders.digest()
    fields: list[object] = list(GOOD)
    fields[position] = value
    with pytest.raises(RejectedError) as caught:
        decode_receipt(shop.command(PLACE, canonical.encode(fields)))
    assert (caught.value.name, caught.value.field) == ("bad_field", field)
    assert shop.orders.digest() == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"\x18\x01",
        canonical.encode(GOOD) + b"\x00",
        canonical.encode(GOOD)[:-1],
        canonical.encode(GOOD[:4]),
        canonical.encode([*GOOD, None]),
        canonical.encode({0: GOOD}),
        canonical.encode("text"),
        b"\x85\x07\x01\x62\xff\xfe\xf4\xf6",  # Text that is not UTF-8.
        b"\x9f\x07\x01\x62x1\xf4\xf6\xff",  # Indefinite length.
        b"\x85\x18\x07\x01\x62x1\xf4\xf6",  # A padded integer.
        b"\x85\xf9\x3c\x00\x01\x62x1\xf4\xf6",  # A float.
        b"\x85\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x62x1\xf4\xf6",  # An integer of 65 bits.
    ],
    ids=bytes.hex,
)
def test_a_body_that_is_not_an_order_is_refused(body: bytes) -> None:
    """Whatever the bytes, the answer is a result, in words that do not depend on the decoder's version."""
    shop = Shop()
    before = shop.orders.digest()
    with pytest.raises(RejectedError, match=r"^malformed \(body\): not (the canonical CBOR|an array of 5)") as caught:
        decode_receipt(shop.command(PLACE, body))
    assert caught.value.field == "body"
    assert shop.orders.digest() == before


@pytest.mark.parametrize(
    ("code", "fields", "field"),
    [
        (READ, [-1], "customer_id"),
        (READ, ["7"], "customer_id"),
        (READ, [], "body"),
        (READ, [1, 2], "body"),
        (SCAN, [-1, 10], "start"),
        (SCAN, [0, 0], "count"),
        (SCAN, [0, COUNT_MAX + 1], "count"),
        (SCAN, [0, True], "count"),
        (SCAN, [0], "body"),
        (RECENT, [-1, 10], "position"),
        (RECENT, [0, -1], "count"),
        (RECENT, None, "body"),
        (99, [], "code"),
        (0, [], "code"),
    ],
)
def test_a_bad_query_names_the_field(code: int, fields: object, field: str) -> None:
    """Queries are checked like commands, and a refused one leaves no snapshot behind."""
    shop = Shop()
    result, cursor = shop.ask(code, canonical.encode(fields))
    with pytest.raises(RejectedError) as caught:
        decode_record(result)
    assert caught.value.field == field
    assert cursor == b""
    assert shop.orders.snapshots == 0


def test_an_unknown_command_is_refused_by_name() -> None:
    """A code without a handler is a result and changes nothing."""
    shop = Shop()
    before = shop.orders.digest()
    with pytest.raises(RejectedError, match="no command with code 77") as caught:
        decode_receipt(shop.command(77, b""))
    assert (caught.value.name, caught.value.field) == ("unknown_code", "code")
    assert shop.orders.digest() == before


@pytest.mark.parametrize("value", [0, -1, True, "10"])
def test_the_size_of_the_ring_is_checked_at_start(value: object) -> None:
    """A ring without room could remember no key."""
    with pytest.raises(ConfigError, match="recent_orders_max"):
        Orders(recent_orders_max=value)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_orders_decode_to_what_was_encoded() -> None:
    """Optional fields have defaults; nothing is lost on the way."""
    for order in (
        PlaceOrder(7, 1, "x1"),
        PlaceOrder(0, ID_MAX, "\u00e9" * 32, overwrite=True, idempotency_key=b"\x00"),
    ):
        assert decode_place(encode_place(order)) == order


# --- Scans ------------------------------------------------------------------------------------


def test_a_scan_reads_all_customers_in_order_from_one_op() -> None:
    """Later orders, of known and new customers, do not show in the later pages of a scan."""
    shop = Shop()
    for customer in (50, 10, 40, 20, 30):
        shop.place(customer, customer)
    first, cursor = shop.scan(0, 2)
    shop.place(30, 1000)
    shop.place(25, 1)
    second, cursor = shop.scan(0, 2, cursor)
    shop.place(50, 1000)
    third, last = shop.scan(0, 2, cursor)

    pages = (first, second, third)
    assert [[record.customer_id for record in page.records] for page in pages] == [[10, 20], [30, 40], [50]]
    assert [record.last_order for page in pages for record in page.records] == [10, 20, 30, 40, 50]
    assert {page.op for page in pages} == {5}
    assert last == b""
    assert [record.last_order for record in shop.scan(0, 10)[0].records] == [10, 20, 1, 1000, 40, 1000]


def test_a_scan_starts_at_its_start_and_ends_without_an_empty_page() -> None:
    """A page that just fits the rest is the final one."""
    shop = Shop()
    for customer in (1, 2, 3, 4):
        shop.place(customer, 1)
    page, cursor = shop.scan(3, 2)
    assert [record.customer_id for record in page.records] == [3, 4]
    assert cursor == b""
    assert shop.scan(5, 2) == (ScanPage(4, ()), b"")


def test_the_final_page_frees_its_snapshot() -> None:
    """A scan of one page keeps none at all; its cursor is of no use afterwards."""
    shop = Shop()
    for customer in (1, 2):
        shop.place(customer, 1)
    shop.scan(0, 2)
    assert shop.orders.snapshots == 0
    _, cursor = shop.scan(0, 1)
    assert shop.orders.snapshots == 1
    shop.scan(0, 1, cursor)
    assert shop.orders.snapshots == 0
    with pytest.raises(SnapshotGoneError):
        shop.scan(0, 1, cursor)


def test_a_page_can_be_asked_for_again() -> None:
    """When the answer got lost the same cursor gives the same page, as long as it was not the final one."""
    shop = Shop()
    for customer in (1, 2, 3):
        shop.place(customer, 1)
    _, cursor = shop.scan(0, 1)
    once = shop.scan(0, 1, cursor)
    shop.place(2, 2)
    assert shop.scan(0, 1, cursor) == once


def test_a_ninth_scan_drops_the_oldest() -> None:
    """The dropped one has to start again; short scans in between drop nothing."""
    shop = Shop()
    for customer in (1, 2):
        shop.place(customer, 1)
    cursors = [shop.scan(0, 1)[1] for _ in range(SNAPSHOTS_MAX)]
    shop.scan(0, 2)
    assert shop.orders.snapshots == SNAPSHOTS_MAX
    shop.scan(0, 1)
    with pytest.raises(SnapshotGoneError):
        shop.scan(0, 1, cursors[0])
    for cursor in cursors[1:]:
        shop.scan(0, 1, cursor)


def test_an_idle_scan_is_dropped() -> None:
    """By the next query, whoever asks it, or by the host's call."""
    shop = Shop()
    for customer in (1, 2):
        shop.place(customer, 1)
    shop.scan(0, 1)
    shop.now_tick = SNAPSHOT_IDLE_TICKS + 1
    shop.read(1)
    assert shop.orders.snapshots == 0


def test_cursors_of_other_queries_are_refused() -> None:
    """A scan's cursor is none for recent orders, nor for a read."""
    shop = Shop()
    for customer in (1, 2):
        shop.place(customer, 1)
    _, cursor = shop.scan(0, 1)
    with pytest.raises(SnapshotGoneError):
        shop.recent(0, 1, cursor)
    with pytest.raises(SnapshotGoneError):
        shop.ask(READ, encode_read(ReadCustomer(1)), cursor)
    assert len(shop.scan(0, 1, cursor)[0].records) == 1


def test_the_largest_page_is_far_below_one_mebibyte() -> None:
    """COUNT_MAX records of the greatest size: the bound on the count is the bound on the page."""
    orders = Orders()
    laptop = "x" * 64
    bodies = [encode_place(PlaceOrder(ID_MAX - number, ID_MAX, laptop)) for number in range(COUNT_MAX)]
    orders.apply(2**62, 2**62, [(index, CLIENT, PLACE, body) for index, body in enumerate(bodies)])
    for code, body in (
        (SCAN, encode_scan(ScanCustomers(0, COUNT_MAX))),
        (RECENT, encode_recent(ReadRecent(0, COUNT_MAX))),
    ):
        ((_, result, cursor, _),) = orders.query(2**62, 0, [(1, 1, code, body, b"")])
        assert len(result) <= 1 << 18
        assert cursor == b""


# --- Recent orders ----------------------------------------------------------------------------


def test_recent_orders_list_each_placed_order_once_in_order() -> None:
    """Refused and repeated requests leave no trace; the listing has op and index of each order."""
    shop = Shop()
    shop.place(7, 1, "a", key=b"mine")
    shop.place(7, 1, "a", key=b"mine")
    with pytest.raises(RejectedError):
        shop.place(7, 1, "b")
    shop.place(7, 1, "c", overwrite=True)
    bodies = [encode_place(PlaceOrder(8, number, "d")) for number in (1, 1, 2)]
    shop.op += 1
    shop.orders.apply(shop.op, START_NS, [(index, CLIENT, PLACE, body) for index, body in enumerate(bodies)])
    assert shop.recent(0, 10) == (
        RecentPage(
            op=5,
            total=4,
            first=0,
            orders=(
                RecentOrder(1, 0, 7, 1, "a"),
                RecentOrder(4, 0, 7, 1, "c"),
                RecentOrder(5, 0, 8, 1, "d"),
                RecentOrder(5, 2, 8, 2, "d"),
            ),
        ),
        b"",
    )


def test_recent_orders_start_at_the_oldest_that_is_kept() -> None:
    """A page says at which position it starts, so a gap is seen."""
    shop = Shop(recent_orders_max=3)
    assert shop.recent(0, 10)[0] == RecentPage(0, 0, 0, ())
    for number in range(5):
        shop.place(7, number)
    page, _ = shop.recent(0, 10)
    assert (page.total, page.first, [order.order_number for order in page.orders]) == (5, 2, [2, 3, 4])
    assert [order.order_number for order in shop.recent(4, 10)[0].orders] == [4]
    beyond, cursor = shop.recent(99, 10)
    assert (beyond.first, beyond.orders, cursor) == (5, (), b"")


def test_pages_of_recent_orders_are_of_one_op() -> None:
    """Orders placed meanwhile neither appear nor push out what later pages show."""
    shop = Shop(recent_orders_max=4)
    for number in range(4):
        shop.place(7, number)
    first, cursor = shop.recent(0, 3)
    for number in range(10, 20):
        shop.place(7, number)
    second, last = shop.recent(0, 3, cursor)
    assert [order.order_number for order in first.orders + second.orders] == [0, 1, 2, 3]
    assert (first.op, second.op, second.total, second.first) == (4, 4, 4, 3)
    assert last == b""


# --- Digest -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        PlaceOrder(8, 1, "x1"),
        PlaceOrder(7, 2, "x1"),
        PlaceOrder(7, 1, "x2"),
        PlaceOrder(7, 1, "x1", idempotency_key=b"k"),
    ],
)
def test_the_digest_sees_every_field(other: PlaceOrder) -> None:
    """Two machines that differ in one field of one order differ in their digests."""
    one, two = Shop(), Shop()
    one.command(PLACE, encode_place(PlaceOrder(7, 1, "x1")))
    two.command(PLACE, encode_place(other))
    assert one.orders.digest() != two.orders.digest()


def test_the_digest_sees_op_time_and_configuration() -> None:
    """An order at another op or time, or a ring of another size, is another state."""
    digests: set[bytes] = set()
    body = encode_place(PlaceOrder(7, 1, "x1"))
    for op, timestamp, size in ((1, 1, 10), (2, 1, 10), (1, 2, 10), (1, 1, 11)):
        orders = Orders(recent_orders_max=size)
        orders.apply(op, timestamp, [(0, CLIENT, PLACE, body)])
        digests.add(orders.digest())
    assert len(digests) == 4


def test_the_digest_sees_what_the_ring_forgot_differently() -> None:
    """Equal customers with other recent orders are not equal: they would answer a key differently."""
    one, two = Shop(recent_orders_max=2), Shop(recent_orders_max=2)
    one.place(7, 1, key=b"mine")
    two.place(7, 1, key=b"other")
    for shop in (one, two):
        shop.place(7, 2)
    assert one.read(7) == two.read(7)
    assert one.orders.digest() != two.orders.digest()
