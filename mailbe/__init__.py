"""A mail server to start in a minute and trust with real mail: SMTP and POP3 on Twisted."""

__version__ = "0.1.0"
