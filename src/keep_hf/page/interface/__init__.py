"""The interface of the page: components, event handlers, and what a session looks like in the browser."""
