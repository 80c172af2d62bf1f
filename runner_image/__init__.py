"""What images carry and what runs in them; nothing here is imported by the library."""
