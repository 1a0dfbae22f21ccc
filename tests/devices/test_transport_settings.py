"""Addresses of links, settings and requests that can't be right, and who may use what."""

import pytest

from custom_components.energy_ledger.devices.errors import SettingsError
from custom_components.energy_ledger.devices.transport.base import (
    LinkKind,
    LinkSettings,
    check_read,
    check_unit_id,
    check_write,
    parse_link,
)
from custom_components.energy_ledger.devices.transport.framing import (
    Expected,
    Verdict,
    judge_rtu,
    judge_socket,
    rtu_frame_size,
    skip_late_rtu,
)
from custom_components.energy_ledger.devices.transport.pool import LinkPool
from tests.devices.wire import Memory, serving, settings_for


@pytest.mark.parametrize(
    ("text", "kind", "endpoint"),
    [
        ("192.0.2.7", LinkKind.TCP, "192.0.2.7:502"),
        (" inverter.local:1502 ", LinkKind.TCP, "inverter.local:1502"),
        ("[2001:db8::1]:5020", LinkKind.TCP, "[2001:db8::1]:5020"),
        ("2001:db8::1", LinkKind.TCP, "[2001:db8::1]:502"),
        ("tcp://192.0.2.7/", LinkKind.TCP, "192.0.2.7:502"),
        ("rtu-over-tcp://192.0.2.7:8080", LinkKind.RTU_OVER_TCP, "192.0.2.7:8080"),
        ("udp://192.0.2.7", LinkKind.UDP, "192.0.2.7:502"),
        ("rtu+udp://192.0.2.7:8899", LinkKind.RTU_OVER_UDP, "192.0.2.7:8899"),
        ("/dev/ttyUSB0", LinkKind.SERIAL, "/dev/ttyUSB0"),
        ("COM3", LinkKind.SERIAL, "COM3"),
        ("serial:///dev/ttyS1?baudrate=19200&parity=e&stopbits=2&bytesize=7", LinkKind.SERIAL, "/dev/ttyS1"),
    ],
)
def test_addresses(text: str, kind: LinkKind, endpoint: str) -> None:
    settings = parse_link(text)
    assert (settings.kind, settings.endpoint) == (kind, endpoint)


def test_serial_line_settings_and_defaults() -> None:
    settings = parse_link("/dev/ttyS1?baudrate=19200&parity=e&stopbits=2&bytesize=7")
    assert (settings.baudrate, settings.parity, settings.stopbits, settings.bytesize) == (19200, "E", 2, 7)
    assert parse_link("192.0.2.7", kind=LinkKind.RTU_OVER_TCP, default_port=8080).port == 8080
    assert settings.rtu_framed
    assert not parse_link("192.0.2.7").rtu_framed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no host given"),
        ("http://192.0.2.7", "unknown kind of link 'http'"),
        ("192.0.2.7:99999", "is no address"),
        ("192.0.2.7:", "is no address"),
        ("192.0.2.7:0", "port is 0; allowed are 1 to 65535"),
        ("two words", "is no address"),
        ("host/path", "is no address"),
        ("user@host", "is no address"),
        ("[2001:db8", "is no address"),
        ("/dev/ttyS0?baudrate=fast", "baudrate is 'fast'"),
        ("/dev/ttyS0?baudrate=5", "baudrate is 5; allowed are 300"),
        ("/dev/ttyS0?parity=X", "parity is 'X'"),
        ("/dev/ttyS0?speed=9600", "unknown serial setting 'speed'"),
        ("serial://", "needs a device"),
    ],
)
def test_addresses_that_cant_be_right(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message.replace("[", r"\[")):
        parse_link(text)


def test_contradicting_kinds_and_missing_hosts() -> None:
    with pytest.raises(SettingsError, match="the address says udp, the option says rtu_over_tcp"):
        parse_link("udp://192.0.2.7", kind=LinkKind.RTU_OVER_TCP)
    with pytest.raises(SettingsError, match="needs a host"):
        LinkSettings()
    with pytest.raises(SettingsError, match=r"timeout is 0; allowed are 0.01 to 60"):
        LinkSettings(host="a", timeout_s=0)
    with pytest.raises(SettingsError, match=r"last retry pause is 31; allowed are 0.25 to 30"):
        LinkSettings(host="a", retry_last_s=31)


def test_requests_that_no_device_could_answer() -> None:
    with pytest.raises(SettingsError, match="function 7 does not read"):
        check_read(7, 0, 1)
    with pytest.raises(SettingsError, match="register count is 126; allowed are 1 to 125"):
        check_read(3, 0, 126)
    with pytest.raises(SettingsError, match="register address is 65535; allowed are 0 to 65534"):
        check_read(3, 65535, 2)
    with pytest.raises(SettingsError, match="function 3 does not write"):
        check_write(3, 0, [1])
    with pytest.raises(SettingsError, match="number of values is 2; allowed are 1 to 1"):
        check_write(6, 0, [1, 2])
    with pytest.raises(SettingsError, match="value to write is 65536; allowed are 0 to 65535"):
        check_write(16, 0, [65536])
    with pytest.raises(SettingsError, match="value to write is 2; allowed are 0 to 1"):
        check_write(5, 0, [2])
    with pytest.raises(SettingsError, match="unit id is 256"):
        check_unit_id(256)


async def test_devices_on_one_link_share_it_and_no_two_have_one_unit() -> None:
    async with serving({1: Memory({0: [1]}), 2: Memory({0: [2]})}) as server:
        pool = LinkPool()
        settings = settings_for(server)
        first = pool.hold(settings, 1, "inverter")
        second = pool.hold(settings, 2, "meter")
        assert first.link is second.link
        with pytest.raises(SettingsError, match=r"unit 1 at .* is already set up as inverter"):
            pool.hold(settings, 1, "battery")
        assert pool.hold(settings, 1, "inverter").link is first.link
        assert (await first.unit.read(3, 0, 1), await second.unit.read(3, 0, 1)) == ([1], [2])
        await pool.release(first)
        assert (await second.unit.read(3, 0, 1)) == [2]
        await pool.release(second)
        await pool.release(second)
        assert not second.link.connected
        third = pool.hold(settings, 1, "battery")
        assert third.link is not first.link
        await pool.close()


async def test_one_serial_line_has_one_speed() -> None:
    pool = LinkPool()
    pool.hold(parse_link("/dev/ttyS9?baudrate=9600"), 1, "meter")
    with pytest.raises(SettingsError, match="already open with baudrate 9600, so baudrate 19200 can't be"):
        pool.hold(parse_link("/dev/ttyS9?baudrate=19200"), 2, "inverter")
    pool.hold(parse_link("192.0.2.7"), 1, "inverter")
    with pytest.raises(SettingsError, match="already open with kind tcp"):
        pool.hold(parse_link("rtu-over-tcp://192.0.2.7"), 2, "meter")
    await pool.close()


# --- frames -------------------------------------------------------------------------------------------

READ_TWO = Expected(3, 1, 100, 2, transaction=7)


def mbap(pdu: bytes, *, transaction: int = 7, unit: int = 1, protocol: int = 0) -> bytes:
    head = transaction.to_bytes(2, "big") + protocol.to_bytes(2, "big")
    return head + (len(pdu) + 1).to_bytes(2, "big") + bytes((unit,)) + pdu


GOOD = bytes((3, 4, 0, 1, 0, 2))


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (mbap(GOOD), GOOD[2:]),
        (mbap(GOOD, transaction=6) + mbap(GOOD), GOOD[2:]),
        (mbap(GOOD)[:9], Verdict.ANSWER),
        (b"", Verdict.ANSWER),
        (mbap(GOOD[:-2]), Verdict.WRONG),
        (mbap(bytes((4, 4, 0, 1, 0, 2))), Verdict.WRONG),
        (mbap(bytes((0x83, 2))), Verdict.ANSWER),
        (mbap(bytes((0x84, 2))), Verdict.WRONG),
        (mbap(GOOD, protocol=9), Verdict.WRONG),
        (mbap(bytes(300)), Verdict.WRONG),
        (mbap(GOOD[:-2], transaction=6), Verdict.ANSWER),
        (mbap(GOOD[:-2], transaction=6) + mbap(GOOD[:-2]), Verdict.WRONG),
        (mbap(GOOD[:-2], unit=2), Verdict.ANSWER),
    ],
)
def test_modbus_tcp_frames(data: bytes, verdict: Verdict | bytes) -> None:
    assert judge_socket(data, READ_TWO) == verdict


@pytest.mark.parametrize(
    ("expected", "pdu", "verdict"),
    [
        (Expected(6, 1, 5, 1, (9,), 7), bytes((6, 0, 5, 0, 9)), Verdict.ANSWER),
        (Expected(6, 1, 5, 1, (9,), 7), bytes((6, 0, 5, 0, 8)), Verdict.WRONG),
        (Expected(6, 1, 5, 1, (9,), 7), bytes((6, 0, 6, 0, 9)), Verdict.WRONG),
        (Expected(16, 1, 5, 3, (1, 2, 3), 7), bytes((16, 0, 5, 0, 3)), Verdict.ANSWER),
        (Expected(5, 1, 5, 1, (1,), 7), bytes((5, 0, 5, 0xFF, 0)), Verdict.ANSWER),
        (Expected(5, 1, 5, 1, (0,), 7), bytes((5, 0, 5, 0xFF, 0)), Verdict.WRONG),
        (Expected(2, 1, 5, 9, None, 7), bytes((2, 2, 1, 1)), Verdict.ANSWER),
        (Expected(2, 1, 5, 8, None, 7), bytes((2, 2, 1, 1)), Verdict.WRONG),
    ],
)
def test_echoes_and_bits(expected: Expected, pdu: bytes, verdict: Verdict) -> None:
    assert judge_socket(mbap(pdu), expected) is verdict


def test_rtu_frames() -> None:
    expected = Expected(3, 1, 100, 2)
    late = bytes((1, 3, 2, 0, 9, 0, 0))
    good = bytes((1, 3, 4, 0, 1, 0, 2, 0, 0))
    assert judge_rtu(good, expected) is Verdict.ANSWER
    assert judge_rtu(late, expected) is Verdict.WRONG
    assert judge_rtu(late[:4], expected) is Verdict.ANSWER
    assert skip_late_rtu(late + good, expected) == good
    assert skip_late_rtu(late, expected) == b""
    assert rtu_frame_size(b"\x01\x83\x02") == 5
    assert rtu_frame_size(b"\x01\x06\x00") == 8
    assert rtu_frame_size(b"\x01\x03") is None
    assert rtu_frame_size(b"\x01\x2b\x00") is None
