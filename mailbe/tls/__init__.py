"""TLS: the certificate that the operator gave, or one that we make, and the connections that show it."""
