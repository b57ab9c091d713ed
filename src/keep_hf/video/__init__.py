"""Video files and image folders in and out: frames with their times, sound, segments that survive a kill."""
