"""``mailbe client``: a mail program for the terminal that shows SMTP and POP3 at work.

The core is made of calls that wait, and knows nothing of any screen: where the servers are (``servers``), whom to
trust (``trust``), the two protocols (``sending``, ``pop3``) on one kind of connection (``wire``), what was said on
it (``dialogue``), and all of it together for one person (``mail``). ``plain`` and ``screen`` are its two faces.
"""
