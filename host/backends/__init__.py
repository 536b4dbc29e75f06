"""What sessions run on: executors in this process, and boards behind the link."""
