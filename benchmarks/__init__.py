"""What the mesh costs, as ratios measured within one run."""
