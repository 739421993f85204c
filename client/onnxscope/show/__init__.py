"""How results look: tables as text and as HTML."""
