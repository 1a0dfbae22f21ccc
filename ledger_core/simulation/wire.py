"""Messages as they travel: encoded and decoded as between real nodes, once for all receivers."""

from collections import OrderedDict

from ledger_core.node.messages import Message, decode_message, encode_message

FRAME_BYTES = 16 + 4 + 8
"""What encryption (tag), WebSocket and the frame's own head add to a message; TCP and IP are not counted."""

KEPT = 4096


class Parcel:
    """A message on its way."""

    __slots__ = ("message", "original", "size")

    def __init__(self, original: Message) -> None:
        self.original = original
        """Held so that its identity stays its own."""
        data = encode_message(original)
        self.size = len(data) + FRAME_BYTES
        self.message = decode_message(data)


class Wire:
    """Packs messages; those sent to many peers are packed once."""

    def __init__(self) -> None:
        self._parcels: OrderedDict[int, Parcel] = OrderedDict()

    def pack(self, message: Message) -> Parcel:
        """Return the message as its receiver decodes it, and its size in bytes."""
        key = id(message)
        parcel = self._parcels.get(key)
        if parcel is None:
            parcel = self._parcels[key] = Parcel(message)
            if len(self._parcels) > KEPT:
                self._parcels.popitem(last=False)
        return parcel
