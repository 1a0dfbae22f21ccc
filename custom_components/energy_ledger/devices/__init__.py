"""Modbus devices: transport, read planner, codec, profiles and devices; independent of Home Assistant."""
