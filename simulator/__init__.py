"""Homes with simulated Modbus devices, for the demo, the benchmarks and the tests."""
