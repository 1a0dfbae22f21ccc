"""How much a unit of a currency is worth, to the nearest power of ten: for defaults of prices and credit."""

from typing import Final

_UNITS: Final = {
    10: "BWP CNY CZK DKK GTQ HKD HNL INR MAD MDL MUR MXN NIO NOK PHP SEK THB TRY TWD UAH UYU ZAR",
    100: "ALL DZD DOP ETB HUF ISK JMD JPY KES KGS MKD NPR PKR RSD RUB XOF XAF",
    1000: "AMD ARS CLP CRC IQD KRW KZT LKR MMK NGN RWF TZS",
    10_000: "COP IDR IRR KHR LAK LBP MGA MNT PYG UGX UZS VND",
}
_MAGNITUDES: Final = {code: units for units, codes in _UNITS.items() for code in codes.split()}


def magnitude(currency: str) -> int:
    """Return about how many units of a currency a euro or a dollar is: 1, 10, 100, …; 1 if not known."""
    return _MAGNITUDES.get(currency.strip().upper(), 1)
