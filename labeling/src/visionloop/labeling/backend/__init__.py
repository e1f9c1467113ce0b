"""The ML backend of Label Studio: drafts on request, queued training, hints to pull."""
