"""What a run left behind, as data, story, timeline picture and HTML."""
