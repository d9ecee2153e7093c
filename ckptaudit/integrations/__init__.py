"""Ready-made parts for other tools; each imports its tool only when it is used."""
