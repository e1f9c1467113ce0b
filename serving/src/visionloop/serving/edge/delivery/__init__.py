"""Events on their way: durable in the outbox, sent to every sink in order, none lost or doubled."""
