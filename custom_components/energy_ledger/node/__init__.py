"""The node that this integration runs as a child process."""
