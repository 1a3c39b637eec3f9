"""Every claim measured against a real peer."""
