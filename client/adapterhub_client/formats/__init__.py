"""What is in a folder: the adapters, PEFT and composition formats, read without torch."""
