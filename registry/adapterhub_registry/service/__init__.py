"""What the registry does; each function takes the viewer and a session, or the whole runtime where bytes move."""
