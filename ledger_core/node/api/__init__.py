"""The node's API: loopback HTTP and WebSocket with a bearer token.

model     what the answers hold; `queries`: what a request may ask
views     the state as answers, pure; `block_views`: blocks, records, proofs; `plain`: structs as JSON
event_log events kept on disk, with a cursor; `event_feed`: brings them there without gaps; `replay`: finds
          again what happened in stored blocks
backend   what the API needs of a node
routes    the table of routes; `openapi`: the document made of it; `handlers`: what they do
server    the aiohttp application; `token`, `guard`: who may ask, how much; `stream`: events as they happen
"""
