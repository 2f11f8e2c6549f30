"""Take over a reference hub: its YAML into the catalogue, its zips into the store."""
