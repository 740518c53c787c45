"""The report as pages of paper: a PDF that a surveyor can hand to a client."""
