"""The checks, by what they are about. They are made in the order in which they stand here."""

from mailbe.conform.checks import (
    pop3_authorization,
    pop3_capabilities,
    pop3_listing,
    pop3_messages,
    pop3_sasl,
    pop3_tls,
    pop3_update,
    smtp_auth,
    smtp_chunking,
    smtp_commands,
    smtp_content,
    smtp_extensions,
    smtp_future,
    smtp_limits,
    smtp_order,
    smtp_paths,
    smtp_pipelining,
    smtp_reports,
    smtp_session,
    smtp_tls,
    smtp_trace,
    smtp_utf8,
)
from mailbe.conform.rules import RULES, Rule

_ORDER = [
    smtp_session,
    smtp_order,
    smtp_commands,
    smtp_paths,
    smtp_limits,
    smtp_content,
    smtp_trace,
    smtp_extensions,
    smtp_pipelining,
    smtp_tls,
    smtp_auth,
    smtp_utf8,
    smtp_chunking,
    smtp_reports,
    smtp_future,
    pop3_authorization,
    pop3_listing,
    pop3_messages,
    pop3_update,
    pop3_capabilities,
    pop3_tls,
    pop3_sasl,
]
_PLACES = {module.__name__: place for place, module in enumerate(_ORDER)}
TABLE: tuple[Rule, ...] = tuple(sorted(RULES, key=lambda rule: _PLACES[rule.check.__module__]))
