"""SMTP, the server's side of it (RFC 5321)."""
