"""What the zoo has by name, and how it is trained."""
