"""Reading and writing of videos and image folders: timestamps, audio, and segments that survive a kill."""
