"""What the endpoints of the API need besides their work: documentation, and checks of arguments."""
