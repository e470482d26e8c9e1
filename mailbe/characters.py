"""The characters that neither a name nor a password may have at log-in (RFC 4013 2.3).

SASLprep forbids more to what is kept: what Unicode 3.2 did not know, as emoji, and directions that are mixed. Who
logs in with such a password has said it as it is kept, and RFC 6856 2.2 asks us to refuse those of 2.3 alone.
"""

from __future__ import annotations

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def has_prohibited(text: str) -> bool:
    """Whether any is in ``text`` once that is mapped and normalized (RFC 4013 2.1, 2.2)."""
    mapped = "".join(character for character in text if not stringprep.in_table_b1(character))
    normal = unicodedata.normalize("NFKC", mapped)
    return any(is_in(character) for character in normal for is_in in _PROHIBITED)
