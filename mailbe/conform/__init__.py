"""The conformance run: conversations with any SMTP and POP3 server, each judged by a section of an RFC.

Read ``rules.py`` first: what a rule is, and what can come of it; then one of ``checks/``.
"""
