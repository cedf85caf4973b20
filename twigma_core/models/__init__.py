"""CLIP, BLIP and the NSFW head, behind one interface each."""
