"""The views: what each screen shows, read from a crew into plain values; no HTTP, no markup."""
