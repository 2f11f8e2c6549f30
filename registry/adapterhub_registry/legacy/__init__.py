"""The static files of the reference hub, made from our catalogue, for clients that know no other hub."""
