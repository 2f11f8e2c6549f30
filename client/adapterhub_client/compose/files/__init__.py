"""What goes in and out: folders of the `adapters` library, of PEFT, and our own, by name and by reference."""
