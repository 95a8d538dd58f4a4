"""From the spool to the receiver: two lanes, paced by what the path carries."""
