"""The stores: one Protocol, a table of backends, one file or family of files per engine."""
