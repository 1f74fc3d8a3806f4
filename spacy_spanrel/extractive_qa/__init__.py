"""`extractive_qa`: a component that answers questions with words of the text."""
