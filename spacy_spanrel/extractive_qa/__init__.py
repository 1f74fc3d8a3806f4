"""`extractive_qa`: answers to questions in the words of a text."""
