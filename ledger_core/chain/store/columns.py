"""Values of the same meaning side by side, so that a compressor sees how alike they are.

A segment of the archive holds many values of the same few shapes. `Writer` takes them one after the other
and sorts them into columns by their place in the shape: integers as the difference to the column's last one,
keys and asset ids as their number in the `KeyBook`, and random bytes (signatures, nonces, hashes) apart,
where they don't disturb the compression of the rest. `Reader` gives the same values back. The columns carry
the shapes themselves, so that a new kind of record needs no change here.
"""

import zlib
from collections.abc import Sequence
from compression.zstd import ZstdDecompressor, ZstdError
from compression.zstd import compress as zstd_compress
from typing import Any

import msgspec
from msgspec import Struct

from ledger_core.chain.store.keybook import KeyBook

LEVEL = 19
"""Segments are small and written once: the best compression costs milliseconds."""

MAX_UNPACKED = 256 * 1024 * 1024
"""Far above any segment that the archive makes: it cuts them by size."""

_SIZES_APART = frozenset({8, 64})
"""Sizes of bytes that are random: nonces and signatures."""
_LEARNT_SIZE = 16
"""Size of an asset id."""
_KEY_SIZES = frozenset({16, 32})
_DIFFERENCE_LIMIT = 1 << 60
_MANY = 32
"""A list of more items is taken for one of like items."""
_MAX_DEPTH = 24

# Tokens: a list in a column stands for something that is no integer, text, number, or None itself.
_LIST_OF_LIKE, _KEY, _HASH, _APART, _INLINE, _PACKED, _VOTES, _LARGE = range(8)
_VOTE_BYTES = 66

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_decode_columns = msgspec.msgpack.Decoder(list[list[Any]]).decode


class ColumnsError(ValueError):
    """Bytes that are no columns, or values that columns can't hold."""


class Context(Struct, frozen=True):
    """What writer and reader both know."""

    keys: KeyBook
    hashes: Sequence[bytes] = ()
    """Hashes of the last checkpoints: votes name them."""


class Column:
    """The values of one place, and the places inside it."""

    __slots__ = ("children", "last", "position", "values")

    def __init__(self, values: list[Any]) -> None:
        self.values = values
        self.position = 0
        self.last = 0
        self.children: dict[object, Column] = {}


class Writer:
    """Takes values; `pack` returns their bytes."""

    def __init__(self, context: Context) -> None:
        self._keys = context.keys
        self._hashes = {value: number for number, value in enumerate(context.hashes)}
        self._columns: list[list[Any]] = []
        self._apart: list[bytes] = []
        self.root = self._new_column()

    def _new_column(self) -> Column:
        values: list[Any] = []
        self._columns.append(values)
        return Column(values)

    def child(self, column: Column, place: object) -> Column:
        """Return the column of a place inside another."""
        child = column.children.get(place)
        if child is None:
            child = column.children[place] = self._new_column()
        return child

    def put(self, column: Column, value: Any, depth: int = 0) -> None:
        """Add a value; raises ColumnsError for one that is not made of the types of a record."""
        kind = type(value)
        if kind is int:
            self._put_integer(column, value)
        elif kind is bytes:
            self._put_bytes(column, value)
        elif kind is list or kind is tuple:
            self._put_list(column, value, depth)
        elif value is None or kind is bool or kind is str:
            column.values.append(value)
        else:
            raise ColumnsError(f"a {kind.__name__} has no place in a column")

    def _put_integer(self, column: Column, value: int) -> None:
        if -_DIFFERENCE_LIMIT < value < _DIFFERENCE_LIMIT:
            column.values.append(value - column.last)
            column.last = value
        else:
            column.values.append((_LARGE, value))

    def _put_bytes(self, column: Column, value: bytes) -> None:
        size = len(value)
        if size in _SIZES_APART:
            self.put_apart(column, value)
        elif size in _KEY_SIZES:
            number = self._keys.learn(value) if size == _LEARNT_SIZE else self._keys.get(value)
            if number is not None:
                column.values.append((_KEY, number))
            elif value in self._hashes:
                column.values.append((_HASH, self._hashes[value]))
            else:
                self.put_apart(column, value)
        else:
            column.values.append((_INLINE, value))

    def _put_list(self, column: Column, value: Sequence[Any], depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ColumnsError("lists are nested too deeply")
        alike = len(value) > _MANY or (
            len(value) > 0 and all(isinstance(item, (list, tuple, bytes)) for item in value)
        )
        if alike:
            column.values.append((_LIST_OF_LIKE, len(value)))
            child = self.child(column, None)
            for item in value:
                self.put(child, item, depth + 1)
        else:
            column.values.append((len(value),))
            for position, item in enumerate(value):
                self.put(self.child(column, position), item, depth + 1)

    def put_key(self, column: Column, key: bytes) -> None:
        """Add a key that will come again."""
        column.values.append((_KEY, self._keys.learn(key)))

    def put_apart(self, column: Column, value: bytes) -> None:
        """Add bytes that no compressor can make smaller."""
        column.values.append((_APART, len(value)))
        self._apart.append(value)

    def put_packed(self, column: Column, data: bytes) -> None:
        """Add canonical MessagePack of a tagged struct by its values: tag, author, and so on.

        Raises ColumnsError for anything else.
        """
        try:
            value = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ColumnsError(f"not MessagePack: {error}") from error
        if type(value) is not list or len(value) < 2 or _encode(value) != data:
            raise ColumnsError("not the canonical form of a tagged struct")
        tag, author = value[0], value[1]
        if type(tag) is not int or type(author) is not bytes or len(author) != 32:
            raise ColumnsError("the struct has no tag or no author")
        column.values.append((_PACKED, tag, len(value)))
        kind = self.child(column, tag)
        self.put_key(self.child(kind, 1), author)
        for position in range(2, len(value)):
            self.put(self.child(kind, position), value[position])

    def put_votes(self, column: Column, votes: bytes) -> None:
        """Add the votes of a bundle: member indexes and signatures."""
        if not votes or len(votes) % _VOTE_BYTES:
            raise ColumnsError("not a whole number of votes")
        token, last = [_VOTES], 0
        for offset in range(0, len(votes), _VOTE_BYTES):
            index = int.from_bytes(votes[offset : offset + 2])
            token.append(index - last)
            last = index
            self._apart.append(votes[offset + 2 : offset + _VOTE_BYTES])
        column.values.append(token)

    def pack(self) -> bytes:
        """Return all values as bytes, with a checksum."""
        packed = zstd_compress(_encode(self._columns), LEVEL)
        content = len(packed).to_bytes(4) + packed + b"".join(self._apart)
        return zlib.crc32(content).to_bytes(4) + content


class Reader:
    """Gives back what a writer took, in the same order."""

    def __init__(self, data: bytes, context: Context) -> None:
        self._keys = context.keys
        self._hashes = context.hashes
        if len(data) < 8 or zlib.crc32(memoryview(data)[4:]) != int.from_bytes(data[:4]):
            raise ColumnsError("the checksum is wrong")
        self._offset = 8 + int.from_bytes(data[4:8])
        self._data = data
        try:
            frame = ZstdDecompressor()
            unpacked = frame.decompress(memoryview(data)[8 : self._offset], MAX_UNPACKED)
            if not frame.eof:
                raise ColumnsError("the compressed part is incomplete or too large")
            self._columns = _decode_columns(unpacked)
        except (ZstdError, msgspec.DecodeError) as error:
            raise ColumnsError(f"not columns: {error}") from error
        self._used = 0
        self.root = self._new_column()

    def _new_column(self) -> Column:
        self._used += 1
        return Column(self._columns[self._used - 1])

    def child(self, column: Column, place: object) -> Column:
        """Return the column of a place inside another."""
        child = column.children.get(place)
        if child is None:
            child = column.children[place] = self._new_column()
        return child

    def take(self, column: Column) -> Any:
        """Return the column's next value; lists as tuples."""
        token = column.values[column.position]
        column.position += 1
        if type(token) is int:
            column.last += token
            return column.last
        if type(token) is not list:
            return token
        if len(token) == 1:
            return tuple([self.take(self.child(column, position)) for position in range(token[0])])
        return self._expand(column, token)

    def _expand(self, column: Column, token: list[Any]) -> Any:
        code = token[0]
        if code == _LIST_OF_LIKE:
            child = self.child(column, None)
            return tuple([self.take(child) for _ in range(token[1])])
        if code == _KEY:
            return self._keys[token[1]]
        if code == _HASH:
            return self._hashes[token[1]]
        if code == _APART:
            return self._take_apart(token[1])
        if code == _PACKED:
            return self._take_packed(column, token[1], token[2])
        if code == _VOTES:
            return self._take_votes(token)
        return token[1]

    def _take_apart(self, size: int) -> bytes:
        start = self._offset
        self._offset = end = start + size
        if end > len(self._data):
            raise ColumnsError("bytes are missing at the end")
        return self._data[start:end]

    def _take_packed(self, column: Column, tag: int, length: int) -> bytes:
        kind = self.child(column, tag)
        values = [tag]
        values += [self.take(self.child(kind, position)) for position in range(1, length)]
        return _encode(values)

    def _take_votes(self, token: list[int]) -> bytes:
        parts, index = [], 0
        for step in token[1:]:
            index += step
            parts += [index.to_bytes(2), self._take_apart(64)]
        return b"".join(parts)
