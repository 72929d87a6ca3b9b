"""What a layout costs, before it is loaded: its size, and the rules on the way of a first packet."""
