"""What can be verified of headers before the chain is asked, in any thread."""

from ledger_core.chain.verify import Verifier
from ledger_core.node.messages import Headers
from ledger_core.records.block import decode_header, header_hash, miner_message


def verify_seals(verifier: Verifier, message: Headers) -> None:
    """Verify the miners' signatures: the verifier remembers those that are valid.

    Ends at the first that is not: the engine finds it again, and answers for it.
    """
    verifier.verify_ahead(
        [
            (decode_header(sealed.header).miner, miner_message(header_hash(sealed.header)), sealed.signature)
            for sealed in message.headers
        ]
    )
