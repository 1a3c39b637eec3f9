"""Networks and what they are made of; they know no trainer."""
