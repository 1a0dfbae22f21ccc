"""Everything that is signed: record kinds, envelopes, blocks, and their canonical bytes."""
