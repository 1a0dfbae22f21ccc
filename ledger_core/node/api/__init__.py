"""The node's API: loopback HTTP and WebSocket with a bearer token.

model     what the answers hold; `queries`: what a request may ask
views     the state as answers, pure; `block_views`: blocks, records, proofs
"""
