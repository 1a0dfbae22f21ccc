"""A Modbus server that does the frames itself, so that every fault of real devices can be had on demand."""
