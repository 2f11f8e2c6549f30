"""Small drawings as text: pure functions of what they show; classes only, since the security policy forbids styles."""
