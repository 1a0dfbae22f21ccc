"""The physics of a home: pure, seeded, with the time as an argument and energy in whole joules."""
