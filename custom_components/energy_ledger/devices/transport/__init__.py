"""How requests reach a device: one protocol, several kinds of link."""
