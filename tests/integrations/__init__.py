"""The adapters, through the real frameworks."""
