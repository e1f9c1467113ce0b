"""Which model answers: releases fetched, verified, taken over, rolled back; and smaller ones."""
