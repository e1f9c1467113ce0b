"""What annotation costs: times that can be trusted, compared with drawing by hand."""
