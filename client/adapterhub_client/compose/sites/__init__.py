"""Where adapters attach: the table of sites, and a model seen through its row."""
