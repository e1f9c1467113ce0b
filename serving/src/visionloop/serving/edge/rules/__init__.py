"""Rules: when answers become an event; one row of the table a kind."""
