"""What never changes for a mapper: its policy, tables, keys, codec and hydrator."""
