"""What a hit brings along: related objects, as a load would have loaded them."""
