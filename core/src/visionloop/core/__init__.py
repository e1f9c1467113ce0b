"""What every stage shares: entities, configuration, tables, errors, durable files."""
