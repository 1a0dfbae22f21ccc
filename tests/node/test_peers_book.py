"""Who is banned, who is known and where, when to try again: the peers' memory, without sockets."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_core.node.peers import Ban, Misbehaviour, PeerError, PeerSettings, parse_location
from ledger_core.node.peers.address_book import (
    FORGET_AFTER_S,
    MAX_ENTRIES,
    MAX_HINTS,
    RENEWAL_S,
    RENEWALS_AT_ONCE,
    AddressBook,
)
from ledger_core.node.peers.announcement import (
    MAX_ANNOUNCEMENTS,
    Announcement,
    announce,
    decode_announcements,
    encode_announcements,
    is_signed,
)
from ledger_core.node.peers.backoff import Backoff
from ledger_core.node.peers.bans import MAX_BAN_SECONDS, MAX_BANS, Bans
from ledger_core.node.peers.callers import Place, source_of
from ledger_core.node.peers.dial_plan import DialPlan
from ledger_core.node.peers.frames import MAX_ANNOUNCEMENT_BYTES
from ledger_core.node.peers.listener import SourceGate
from ledger_core.node.peers.storage import BANS_FILE, BOOK_FILE, Storage
from ledger_core.node.peers.text import printable
from tests.node.peer_world import CHAIN_ID, seeded, settings

NOW = 1_800_000_000
OWN, OTHER, THIRD = (seeded(number) for number in (1, 2, 3))
HOME = parse_location("192.168.1.20:8765")
FAR = parse_location("wss://home.example.org/api/peer")


def told(number: int = 2, sequence: int = NOW, *urls: str, chain_id: bytes = CHAIN_ID) -> Announcement:
    """Give a node's signed announcement."""
    return announce(seeded(number), chain_id, sequence, urls or (HOME.url,))


class TestBans:
    """Timed, of keys, bounded, kept over restarts."""

    def test_a_ban_ends_by_itself(self) -> None:
        bans = Bans()
        bans.ban(b"k" * 32, 60, "slow", NOW)
        assert bans.find(b"k" * 32, NOW + 59) == Ban(b"k" * 32, NOW + 60, "slow")
        assert bans.find(b"k" * 32, NOW + 60) is None
        assert bans.find(b"x" * 32, NOW) is None

    def test_the_longer_ban_stays(self) -> None:
        bans = Bans()
        bans.ban(b"k" * 32, 600, "oversized", NOW)
        assert bans.ban(b"k" * 32, 60, "slow", NOW).code == "oversized"
        assert bans.ban(b"k" * 32, 900, "flooding", NOW).until == NOW + 900

    def test_bans_survive_a_restart(self) -> None:
        bans = Bans()
        bans.ban(b"k" * 32, 600, "flooding", NOW)
        bans.ban(b"e" * 32, 5, "silent", NOW)
        again = Bans.restore(bans.dump(), NOW + 10)
        assert again.listed(NOW + 10) == [Ban(b"k" * 32, NOW + 600, "flooding")]

    def test_a_clock_that_was_set_back_does_not_ban_for_ever(self) -> None:
        bans = Bans()
        bans.ban(b"k" * 32, 60, "slow", NOW + 10**9)
        (ban,) = Bans.restore(bans.dump(), NOW).listed(NOW)
        assert ban.until == NOW + MAX_BAN_SECONDS

    def test_a_ban_can_be_lifted(self) -> None:
        bans = Bans()
        bans.ban(b"k" * 32, 60, "slow", NOW)
        bans.changed = False
        assert bans.lift(b"k" * 32)
        assert bans.changed
        assert not bans.lift(b"k" * 32)

    def test_there_is_an_end_to_their_number(self) -> None:
        bans = Bans()
        for number in range(MAX_BANS + 5):
            bans.ban(number.to_bytes(32), 1000 + number, "slow", NOW)
        kept = bans.listed(NOW)
        assert len(kept) == MAX_BANS
        assert kept[0].until == NOW + 1005

    @given(st.binary(max_size=60))
    def test_no_file_breaks_it(self, content: bytes) -> None:
        with pytest.raises(PeerError, match="does not read"):
            Bans.restore(content, NOW)


class TestLocations:
    """Where a node can be, and what is not such a place."""

    @pytest.mark.parametrize(
        ("text", "url"),
        [
            ("192.168.1.20:8765", "ws://192.168.1.20:8765/peer"),
            ("Home.Example.org:80", "ws://home.example.org:80/peer"),
            ("[FE80::1]:9", "ws://[fe80::1]:9/peer"),
            ("wss://home.example.org", "wss://home.example.org:443/peer"),
            ("ws://home/", "ws://home:80/peer"),
            ("wss://home:8123/api/energy_ledger/peer", "wss://home:8123/api/energy_ledger/peer"),
        ],
    )
    def test_what_can_be_dialled(self, text: str, url: str) -> None:
        assert parse_location(text).url == url
        assert parse_location(url) == parse_location(text)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "characters"),
            ("x" * 201, "characters"),
            ("home", "port is missing"),
            ("home:0", "port 0"),
            ("home:99999", "not a whole number from 1 to 65535"),
            ("home:http", "not a whole number from 1 to 65535"),
            ("http://home:80", "ws://"),
            ("ws://user:pass@home:80", "user"),
            ("ws://home:80/?x=1", "query"),
            ("ws://home:80/#x", "fragment"),
            ("ws://home:80/a%20b", "path"),
            ("ws://:80", "host"),
            ("ws://-home:80", "host"),
            ("ws://999.1.2.3:80", "host"),
            ("ws://[::1:80", "IPv6"),
            ("ws://ho\nme:80", "character"),
            ("x" * 63 + ".y" * 66 + ":8", "written out it has 207"),
        ],
    )
    def test_what_cannot_says_why(self, text: str, why: str) -> None:
        with pytest.raises(PeerError, match=why) as error:
            parse_location(text)
        assert error.value.code == "location_invalid"
        assert "\n" not in error.value.message

    @pytest.mark.parametrize("text", ["127.0.0.1:1", "localhost:1", "x.localhost.:1", "[::1]:1"])
    def test_this_machine_is_known(self, text: str) -> None:
        assert parse_location(text).is_loopback

    @pytest.mark.parametrize("text", ["0.0.0.0:1", "[::]:1", "224.0.0.251:1", "255.255.255.255:1"])
    def test_some_addresses_are_nobody(self, text: str) -> None:
        assert not parse_location(text).can_be_dialled

    @given(st.text(max_size=40))
    def test_no_text_breaks_it(self, text: str) -> None:
        try:
            location = parse_location(text)
        except PeerError:
            return
        assert parse_location(location.url) == location


class TestAnnouncements:
    """A node's own word, and nobody else's."""

    def test_only_the_node_itself_can_say_it_and_for_one_chain(self) -> None:
        one = told()
        assert is_signed(one, CHAIN_ID)
        assert not is_signed(one, b"\xff" * 32)
        assert not is_signed(Announcement(one.node, one.sequence + 1, one.locations, one.signature), CHAIN_ID)
        assert not is_signed(
            Announcement(THIRD.public_key, one.sequence, one.locations, one.signature), CHAIN_ID
        )

    def test_a_full_frame_of_the_longest_ones_fits(self) -> None:
        longest = tuple(
            f"wss://{port}.{'x' * 60}.{'y' * 60}.{'z' * 54}:{port}/peer" for port in range(8000, 8004)
        )
        told_by_all = [told(number, NOW, *longest) for number in range(2, 2 + MAX_ANNOUNCEMENTS)]
        content = encode_announcements(told_by_all)
        assert len(content) <= MAX_ANNOUNCEMENT_BYTES
        assert decode_announcements(content) == told_by_all

    @pytest.mark.parametrize(
        "content", [b"", b"\x90", b"\x91\x90", bytes(MAX_ANNOUNCEMENT_BYTES + 1)], ids=len
    )
    def test_a_malformed_frame_is_refused(self, content: bytes) -> None:
        with pytest.raises(Misbehaviour) as error:
            decode_announcements(content)
        assert error.value.code == "frame_malformed"


@pytest.fixture
def book() -> AddressBook:
    return AddressBook(OWN, CHAIN_ID)


class TestAddressBook:
    """What is taken from gossip, what is passed on, what is forgotten."""

    def test_the_newest_word_holds(self, book: AddressBook) -> None:
        assert book.learn(told(), NOW)
        assert not book.learn(told(), NOW + 1000)
        assert not book.learn(told(2, NOW - 1, FAR.url), NOW + 1000)
        assert book.learn(told(2, NOW + 1, FAR.url), NOW + 1000)
        assert book.locations(OTHER.public_key) == (FAR,)
        assert book.dialable() == [OTHER.public_key]

    def test_words_that_come_too_often_count_from_the_node_itself_alone(self, book: AddressBook) -> None:
        taken = [book.learn(told(2, NOW + number), NOW) for number in range(RENEWALS_AT_ONCE + 1)]
        assert taken == [True] * RENEWALS_AT_ONCE + [False]
        newer = told(2, NOW + 100, FAR.url)
        assert not book.learn(newer, NOW + RENEWAL_S - 1)
        assert book.learn(newer, NOW + RENEWAL_S - 1, first_hand=True)
        assert book.learn(told(2, NOW + 101), NOW + RENEWAL_S)

    def test_a_forged_word_is_misbehaviour(self, book: AddressBook) -> None:
        with pytest.raises(Misbehaviour) as error:
            book.learn(told(2, chain_id=b"\1" * 32), NOW)
        assert error.value.code == "message_malformed"
        assert len(book) == 0

    @pytest.mark.parametrize("url", ["ws://127.0.0.1:1/peer", "ws://localhost:1/peer", "nonsense"])
    def test_nobody_sends_this_node_to_itself(self, book: AddressBook, url: str) -> None:
        """An address of one's own machine counts from this machine alone."""
        assert not book.learn(told(2, NOW, url), NOW)
        assert book.learn(told(2, NOW, url), NOW, from_loopback=True) == (url != "nonsense")

    def test_addresses_of_nobody_are_passed_over(self, book: AddressBook) -> None:
        assert not book.learn(told(2, NOW, "ws://0.0.0.0:1/peer"), NOW, from_loopback=True)

    def test_a_node_without_an_address_is_known_and_not_dialled(self, book: AddressBook) -> None:
        assert book.learn(announce(OTHER, CHAIN_ID, NOW, ()), NOW)
        assert len(book) == 1
        assert book.dialable() == []
        assert book.locations(OTHER.public_key) == ()

    def test_own_announcements_only_go_up(self, book: AddressBook) -> None:
        """Even if the clock goes back, and after a backup was restored."""
        first = book.announce_self([HOME], NOW)
        second = book.announce_self([FAR], NOW - 5000)
        assert (first.sequence, second.sequence) == (NOW, NOW + 1)
        assert not book.is_overtaken(second, NOW)
        assert book.is_overtaken(told(1, NOW + 500), NOW)
        assert not book.is_overtaken(told(1, NOW + 500), NOW)
        assert book.announce_self([HOME], NOW).sequence == NOW + 501
        assert OWN.public_key not in book.dialable()

    def test_a_sequence_that_leaves_no_room_is_passed_over(self, book: AddressBook) -> None:
        assert not book.learn(told(2, 2**53), NOW)
        assert not book.is_overtaken(told(1, 2**53), NOW)
        assert book.announce_self([], NOW).sequence == NOW

    def test_hints_of_the_lan_come_first_and_go(self, book: AddressBook) -> None:
        book.learn(told(2, NOW, FAR.url), NOW)
        book.hint(OTHER.public_key, [HOME])
        book.hint(OWN.public_key, [HOME])
        assert book.locations(OTHER.public_key) == (HOME, FAR)
        assert book.dialable() == [OTHER.public_key]
        book.hint(OTHER.public_key, [])
        assert book.locations(OTHER.public_key) == (FAR,)
        for number in range(MAX_HINTS + 3):
            book.hint(number.to_bytes(32), [HOME])
        assert len(book.dialable()) == MAX_HINTS + 1

    def test_it_survives_a_restart_and_not_a_change_of_community(self, book: AddressBook) -> None:
        book.announce_self([HOME], NOW)
        book.learn(told(), NOW)
        book.reached(OTHER.public_key, NOW + 1)
        book.reached(THIRD.public_key, NOW + 1)
        again = AddressBook.restore(book.dump(), OWN, CHAIN_ID)
        assert again.dialable() == [OTHER.public_key]
        assert again.announce_self([HOME], 0).sequence == NOW + 1
        assert len(AddressBook.restore(book.dump(), OWN, b"\1" * 32)) == 0

    def test_the_unwanted_and_the_long_silent_are_forgotten(self, book: AddressBook) -> None:
        book.learn(told(2), NOW)
        book.learn(told(3), NOW)
        book.learn(told(4), NOW)
        book.reached(seeded(4).public_key, NOW + FORGET_AFTER_S)
        book.keep_only(lambda key: key != THIRD.public_key, NOW)
        assert len(book) == 2
        book.keep_only(lambda _: True, NOW + FORGET_AFTER_S + 1)
        assert book.dialable() == [seeded(4).public_key]

    def test_there_is_an_end_to_its_size(self, book: AddressBook) -> None:
        """The reached ones stay."""
        book.learn(told(2), NOW)
        book.reached(OTHER.public_key, NOW)
        entry = book._entries[OTHER.public_key]
        for number in range(MAX_ENTRIES - 1):
            book._entries[number.to_bytes(32, "little")] = type(entry)(entry.announcement, NOW)
        assert len(book) == MAX_ENTRIES
        assert book.learn(told(3), NOW)
        assert len(book) == MAX_ENTRIES
        assert book.locations(OTHER.public_key)

    def test_samples_are_of_what_is_known(self, book: AddressBook) -> None:
        for number in range(2, 9):
            book.learn(told(number), NOW)
        assert len(book.sample(3, Random(1))) == 3
        assert len({each.node for each in book.sample(50, Random(1))}) == 7

    @given(st.binary(max_size=60))
    def test_no_file_breaks_it(self, content: bytes) -> None:
        with pytest.raises(PeerError, match="does not read"):
            AddressBook.restore(content, OWN, CHAIN_ID)


class TestBackoff:
    """Waiting doubles up to a cap, is spread, and is forgotten when all is well."""

    def test_the_wait_doubles_and_is_spread(self) -> None:
        backoff = Backoff(Random(5), 1.0, 60.0)
        waits = []
        for _ in range(40):
            backoff.failed(100.0)
            waits.append(backoff.not_before - 100.0)
        assert all(min(60.0, 2.0**n) / 2 <= wait <= min(60.0, 2.0**n) for n, wait in enumerate(waits))
        assert len(set(waits)) == len(waits)
        backoff.succeeded()
        assert backoff.is_due(0.0)

    def test_the_other_sides_wish_is_heard_up_to_the_cap(self) -> None:
        backoff = Backoff(Random(5), 1.0, 60.0)
        backoff.failed(0.0, 30.0)
        assert backoff.not_before == 30.0
        assert not backoff.is_due(29.9)
        backoff.failed(0.0, 1e9)
        assert backoff.not_before == 60.0


class TestDialPlan:
    """The configured in any case, others as wanted; not the linked, the banned, the failed."""

    def plan(
        self, book: AddressBook, up: set[bytes] | None = None, barred: set[bytes] | None = None
    ) -> DialPlan:
        up, barred = up or set(), barred or set()
        return DialPlan(
            book,
            settings(bootstrap=("10.0.0.1:5",)),
            Random(1),
            is_up=lambda key: key in up,
            may_dial=lambda key: key not in barred,
        )

    def test_configured_ones_are_dialled_in_any_case(self, book: AddressBook) -> None:
        for number in range(2, 6):
            book.learn(told(number), NOW)
        plan = self.plan(book)
        assert [each.location.host for each in plan.due(0, 0.0)] == ["10.0.0.1"]
        assert len(plan.due(3, 0.0)) == 3
        assert len(plan.due(99, 0.0)) == 5
        plan.add(HOME)
        plan.add(HOME)
        assert len(plan.due(0, 0.0)) == 2

    def test_the_linked_and_the_barred_are_left_alone(self, book: AddressBook) -> None:
        book.learn(told(2), NOW)
        book.learn(told(3), NOW)
        plan = self.plan(book, {OTHER.public_key}, {THIRD.public_key})
        (configured,) = plan.due(9, 0.0)
        configured.key = OTHER.public_key
        assert plan.due(9, 0.0) == []
        configured.key = THIRD.public_key
        assert plan.due(9, 0.0) == [configured]

    def test_after_a_failure_comes_the_next_location(self, book: AddressBook) -> None:
        book.learn(told(2, NOW, HOME.url, FAR.url), NOW)
        plan = self.plan(book)
        target = plan.due(9, 0.0)[1]
        assert target.location == HOME
        target.backoff.failed(0.0)
        assert target.location == FAR
        assert target not in plan.due(9, 0.0)
        assert target in plan.due(9, 1.0)
        target.is_dialled = True
        assert target not in plan.due(9, 1.0)

    def test_who_moves_is_tried_at_once_and_who_is_forgotten_no_more(self, book: AddressBook) -> None:
        book.learn(told(2), NOW)
        plan = self.plan(book)
        target = plan.due(9, 0.0)[1]
        target.backoff.failed(0.0)
        book.learn(told(2, NOW + 1, FAR.url), NOW, first_hand=True)
        assert target in plan.due(9, 0.0)
        book.keep_only(lambda _: False, NOW)
        assert len(plan.due(9, 0.0)) == len(list(plan.targets())) == 1


class TestStorage:
    """Both files are read and written; broken ones are put aside."""

    async def test_what_has_changed_is_written_and_read_again(
        self, tmp_path: Path, book: AddressBook
    ) -> None:
        storage, bans = Storage(tmp_path), Bans()
        await storage.save_bans(bans)
        await storage.save_book(book)
        assert list(tmp_path.iterdir()) == []
        bans.ban(b"k" * 32, 60, "slow", NOW)
        book.learn(told(), NOW)
        await storage.save_bans(bans)
        await storage.save_book(book)
        assert not bans.changed
        assert not book.changed
        assert storage.load_bans(NOW).listed(NOW) == bans.listed(NOW)
        assert storage.load_book(OWN, CHAIN_ID).dialable() == [OTHER.public_key]
        assert (tmp_path / BANS_FILE).stat().st_mode & 0o777 == 0o600

    def test_a_broken_file_is_put_aside(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        for name in (BANS_FILE, BOOK_FILE):
            (tmp_path / name).write_text("{", encoding="utf-8")
        storage = Storage(tmp_path)
        assert storage.load_bans(NOW).listed(NOW) == []
        assert len(storage.load_book(OWN, CHAIN_ID)) == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            f"{BOOK_FILE}.unreadable",
            f"{BANS_FILE}.unreadable",
        ]
        assert "is kept as" in caplog.text

    async def test_a_failure_to_write_is_told_and_made_good_later(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        home = tmp_path / "home"
        storage, bans = Storage(home), Bans()
        bans.ban(b"k" * 32, 60, "slow", NOW)
        with caplog.at_level("INFO"):
            for _ in range(3):
                await storage.save_bans(bans)
            assert caplog.text.count("can't be written") == 1
            home.mkdir()
            await storage.save_bans(bans)
            assert "is written again" in caplog.text
        assert storage.load_bans(NOW).listed(NOW) == bans.listed(NOW)


class TestSettings:
    """Every value has its bounds."""

    @pytest.mark.parametrize(
        ("changes", "setting"),
        [
            ({"listen_port": 65_536}, "listen_port"),
            ({"max_pending": 0}, "max_pending"),
            ({"handshake_s": 0.0}, "handshake_s"),
            ({"silent_s": 40.0, "keepalive_s": 15.0}, "silent_s"),
            ({"advertise": ("a:1",) * 5}, "advertise"),
            ({"bootstrap": ("a:1",) * 17}, "bootstrap"),
        ],
    )
    def test_values_beyond_them_are_refused(self, changes: dict[str, object], setting: str) -> None:
        with pytest.raises(PeerError) as error:
            PeerSettings(**changes)  # type: ignore[arg-type]
        assert (error.value.code, error.value.details["setting"]) == ("setting_out_of_bounds", setting)

    def test_addresses_must_be_some(self) -> None:
        with pytest.raises(PeerError, match="port is missing"):
            PeerSettings(bootstrap=("nowhere",))

    def test_the_defaults_are_within(self) -> None:
        assert PeerSettings().bootstrapped == PeerSettings().advertised == ()


class TestSourceGate:
    """Handshakes are bounded in all, per source, and per second."""

    def test_places_are_bounded_and_come_back(self) -> None:
        gate = SourceGate(settings(max_pending=5, max_pending_per_source=2))
        gone: list[str] = []

        def call(name: str, address: str) -> Place:
            place = gate.enter(address, 0.0, lambda: gone.append(name))
            assert place is not None
            return place

        places = [call(name, "10.0.0.1") for name in "abc"]
        assert gone == ["a"], "two of one address"
        for name in "def":
            call(name, "127.0.0.1")
        assert gone == ["a"]
        call("g", "10.0.0.2")
        assert gone == ["a", "d"], "five in all: of those with the most, the first"
        for place in places:
            gate.leave(place)
        call("h", "10.0.0.3")
        call("i", "10.0.0.4")
        assert gone == ["a", "d"]

    def test_one_address_begins_only_so_many_per_second(self) -> None:
        gate = SourceGate(settings())

        def tries(source: str, number: int, now: float) -> int:
            fine = 0
            for _ in range(number):
                place = gate.enter(source, now, lambda: None)
                if place is not None:
                    gate.leave(place)
                    fine += 1
            return fine

        assert tries("10.0.0.1", 100, 0.0) == 30
        assert tries("10.0.0.1", 100, 5.0) == 5
        assert tries("127.0.0.1", 1000, 5.0) == 600
        for number in range(2000):
            tries(str(number), 1, 6.0)
        assert tries("10.0.0.1", 100, 6.0) == 30

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("10.0.0.1", "10.0.0.2", False),
            ("10.0.0.1", "::ffff:10.0.0.1", True),
            ("2001:db8::1", "2001:db8::ffff:1", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("fe80::1%eth0", "fe80::2%eth0", False),
            ("127.0.0.1", "::1", False),
            ("a socket", "another", False),
        ],
    )
    def test_one_source_has_one_ipv4_address_or_an_ipv6_network(
        self, one: str, other: str, *, same: bool
    ) -> None:
        assert (source_of(one) == source_of(other)) is same


def test_text_of_others_stays_on_its_line() -> None:
    assert printable("a\x1b[31m\r\nb", 20) == "a?[31m??b"
    assert printable("abcdef", 4) == "abc…"
