"""The proof that no acknowledged letter is lost: a server of its own is crashed again and again, and called to account.

Read ``ledger.py`` first: what was promised, what was found, and what is wrong with the difference.
"""
