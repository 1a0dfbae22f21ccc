"""Device profiles: what a Modbus device offers, where, and how to command it."""
