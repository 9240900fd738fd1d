"""Model cards: written from recorded evidence, never from memory."""
