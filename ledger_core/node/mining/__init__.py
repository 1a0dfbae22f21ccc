"""Mining: a child process that searches within a share of one core, and what steers it."""
