"""Pictures of the product, taken by driving it: for the README, for the guides, and of every page for people to look at."""
