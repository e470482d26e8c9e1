"""Who has an account here, and whether a password is theirs."""
