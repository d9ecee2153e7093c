"""What the values themselves show: weights that are no numbers, running statistics that no training has touched."""
