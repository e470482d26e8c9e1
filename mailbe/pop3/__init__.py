"""POP3, the server's side of it (RFC 1939)."""
