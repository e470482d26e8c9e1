"""Makes ``twistd mailbe`` known to twistd."""

from twisted.application.service import ServiceMaker

mailbe = ServiceMaker("mailbe", "mailbe.tap", "A mail server: SMTP to send and receive, POP3 to fetch.", "mailbe")
