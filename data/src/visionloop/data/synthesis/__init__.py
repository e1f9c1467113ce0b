"""Made images: conditions of a plant, boards, defects; always marked as synthetic."""
