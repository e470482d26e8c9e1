"""The web side: people register, change their password, and see how to set up their mail program."""
