"""What several services need and none owns: money, pages, times."""
