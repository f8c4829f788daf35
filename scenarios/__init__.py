"""Scenarios over whole machines: what the appliance promises, shown on the image that ships."""
