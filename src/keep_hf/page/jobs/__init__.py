"""The jobs of the page, without its interface: sessions, a queue, and the work that is shared between requests.

A job goes on when the browser goes away, and is found again by its id. Nothing here needs gradio.
"""
