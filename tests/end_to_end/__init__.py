"""End to end: real twistd processes and the programs that people read their mail with."""
