"""Drafts go to Label Studio, people decide, annotations come back."""
