"""What is published: the released table and its files, and the page that shows all results."""
