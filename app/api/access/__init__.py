"""Who may call what: keys, scopes, rates, and pages of other origins."""
