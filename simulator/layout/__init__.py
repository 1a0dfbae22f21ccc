"""What a home's devices show and obey: registers by profile, SunSpec maps, and each family's commands."""
