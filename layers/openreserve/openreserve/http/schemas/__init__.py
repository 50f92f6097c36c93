"""What callers send and receive: field names, types and limits."""
